"""Plays a scenario on a stage: creates its models and jobs as any client would, does what the timeline says when it
says so, and watches what goes over the topics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus
from heliograph.client import result_of
from heliograph.core.errors import HeliographError, Unreachable
from heliograph.core.world import World
from heliograph.simulations.scenario.document import Behaviour, Job, Scenario
from heliograph.simulations.scenario.observer import Observer
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.stage import Stage
from heliograph.simulations.scenario.task import USUAL, Naming, federated_task, model
from heliograph.simulations.scenario.timeline import Change, EdgePlan, Timeline

READY_WITHIN = 300.0
"""Seconds, of the stage's clock, in which the edges whose link is up have to be seen."""
AGAIN = 0.5
ANSWER_WITHIN = 10.0

_TOLD = ("status/", "event/evaluation/")
"""Where the addresses begin of what the run waits for."""

Tap = Callable[[Recorded], None]


class Playing(Stage, Protocol):
    """A stage on which the edges' computing may ail, too: see ``Learning``."""

    def behave(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None: ...
    def pace(self, edge: str, times: float) -> None: ...


class Run:
    """One run of a scenario.

    Args:
        make: makes the stage; what is handed to it shall be called with every message that goes over the topics.
        naming: what the stage calls script and data sets.
        record: called with every message, too.
        tick: called now and then, while messages come.
    """

    def __init__(
        self,
        scenario: Scenario,
        timeline: Timeline,
        edges: Mapping[str, EdgePlan],
        make: Callable[[Tap], Playing],
        *,
        naming: Naming = USUAL,
        record: Tap | None = None,
        tick: Callable[[Run], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.observer = Observer(timeline=timeline)
        self.ready = False
        """Whether the cluster has started: time counts from then."""
        self.stage = make(self._tap)
        self._timeline = timeline
        self._edges = edges
        self._naming = naming
        self._record = record
        self._tick = tick
        self._changed = asyncio.Event()
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Since the cluster was ready, of the stage's clock."""
        return self._world.monotonic() - self._began if self.ready else 0.0

    async def play(self) -> Outcome:
        """Returns when all jobs have ended, or the scenario's duration is over.

        Raises HeliographError where the cluster does not start or a job is refused.
        """
        await self.stage.start()
        try:
            at_once = [change for change in self._timeline.changes if change.at <= 0]
            for change in at_once:
                await self._apply(change)
            await self._all_there()
            self._began = self._world.monotonic()
            self.observer.begin(self._world.now())
            self.ready = True
            async with asyncio.TaskGroup() as group:
                changing = group.create_task(self._change(self._timeline.changes[len(at_once) :]))
                for job in self.scenario.jobs:
                    self.observer.plan(job.name, job.rounds)
                creating = [group.create_task(self._create(job)) for job in self.scenario.jobs]
                await self._all_ended()
                for task in (changing, *creating):
                    task.cancel()
            self.observer.end(self._world.now())
            return self.observer.outcome()
        finally:
            await self.stage.stop()

    @property
    def _world(self) -> World:
        return self.stage.world

    def _tap(self, recorded: Recorded) -> None:
        self.observer.observe(recorded)
        if self._record is not None:
            self._record(recorded)
        if recorded.topic.startswith(_TOLD):
            self._changed.set()
        if self._tick is not None:
            self._tick(self)

    async def _all_there(self) -> None:
        """Waits for the edges that can be there: a job that is created earlier starts without the others."""
        away = {change.target: None for change in self._timeline.changes
                if change.at <= 0 and change.action in ("link", "process")}  # fmt: skip
        missing = [name for name in self._edges if name not in away]
        deadline = self._world.monotonic() + READY_WITHIN
        while missing:
            if self.observer.online(missing[-1]):
                missing.pop()
                continue
            left = deadline - self._world.monotonic()
            if left <= 0:
                missing = [name for name in missing if not self.observer.online(name)]
                some = ", ".join(missing[:10])
                raise HeliographError(f"{len(missing)} edges were not there after {READY_WITHIN:g} s: {some}")
            await self._wait(left)

    async def _all_ended(self) -> None:
        names = [job.name for job in self.scenario.jobs]
        while names := [name for name in names if not self.observer.ended(name)]:
            left = self.scenario.duration - self.seconds
            if left <= 0:
                return
            await self._wait(left)

    async def _wait(self, most: float) -> None:
        """Until something has been said."""
        self._changed.clear()
        try:
            async with asyncio.timeout(most):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _change(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            await self._until(change.at)
            await self._apply(change)

    async def _apply(self, change: Change) -> None:
        stage, target, on = self.stage, change.target, change.on
        if change.action == "link":
            stage.set_link(target, up=not on)
        elif change.action == "latency":
            stage.set_link(target, latency=change.amount if on else self._edges[target].latency)
        elif change.action == "process":
            await (stage.kill if on else stage.start_process)(target)
        elif change.action == "restart":
            await stage.kill(f"worker {target}")
        elif change.action == "disk":
            stage.disk_full(target, on)
        elif change.action == "clock":
            stage.set_clock(target, change.amount if on else 0.0)
        elif change.action == "behaviour":
            stage.behave(target, change.behaviour if on else None, change.amount)
        else:
            stage.pace(target, change.amount if on else 1.0)

    async def _create(self, job: Job) -> None:
        await self._until(job.at)
        bus = self.stage.bus()
        await self._patiently(partial(self._ask, bus, "models", model(job)))
        await self._patiently(partial(self._ask, bus, "jobs", federated_task(job, list(self._edges), self._naming)))

    async def _ask(self, bus: Bus, plural: str, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        reply = await bus.request(REQUEST.at(resource=plural, verb="create"), body, ANSWER_WITHIN)
        result_of(reply.body)

    async def _patiently(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Asks until there is an answer: broker and coordinator may be away."""
        while True:
            try:
                return await ask()
            except Unreachable:
                await self._world.sleep(AGAIN)

    async def _until(self, at: float) -> None:
        if (left := at - self.seconds) > 0:
            await self._world.sleep(left)
