"""The run of a scenario on a stage: create its models and jobs like any client, apply the timeline's changes at their
times, and observe all messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from heliograph.bus.contract.registry import lookup
from heliograph.bus.contract.topics import EVALUATION, REQUEST, STATUS
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Unreachable
from heliograph.core.world import World
from heliograph.requester import result_of
from heliograph.simulations.scenario.document import Behaviour, Job, Scenario
from heliograph.simulations.scenario.job_document import DEFAULT_NAMING, Naming, federated_task, model
from heliograph.simulations.scenario.observer import Observer
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.stage import Stage
from heliograph.simulations.scenario.timeline import Change, EdgePlan, Timeline

READY_TIMEOUT = 300.0
"""Seconds of the stage's clock within which all edges with a link must be online."""
RETRY_AFTER = 0.5
REPLY_TIMEOUT = 10.0

_AWAITED = (STATUS, EVALUATION)
"""The topics that the run waits for."""

Tap = Callable[[Recorded], None]


class TrainingStage(Stage, Protocol):
    """A stage that can also disturb the edges' training; see ``Learning``."""

    def set_behaviour(self, edge: str, behaviour: Behaviour | None, amount: float = 0.0) -> None: ...
    def set_slowdown(self, edge: str, factor: float) -> None: ...


class ScenarioRun:
    """The run of one scenario on a stage.

    Args:
        make_stage: function that returns the stage. The stage calls its argument with every message on the topics.
        naming: the stage's names for the script and the data sets.
        record: function called with every message, for recording.
        tick: function called on every message, for showing progress.
    """

    def __init__(
        self,
        scenario: Scenario,
        timeline: Timeline,
        edges: Mapping[str, EdgePlan],
        make_stage: Callable[[Tap], TrainingStage],
        *,
        naming: Naming = DEFAULT_NAMING,
        record: Tap | None = None,
        tick: Callable[[ScenarioRun], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.observer = Observer(timeline=timeline)
        self.ready = False
        """Whether the cluster has started; ``seconds`` counts from then."""
        self.stage = make_stage(self._tap)
        self._timeline = timeline
        self._edges = edges
        self._naming = naming
        self._record = record
        self._tick = tick
        self._changed = asyncio.Event()
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the stage's clock since the cluster was ready."""
        return self._world.monotonic() - self._began if self.ready else 0.0

    async def play(self) -> Outcome:
        """Play until all jobs have ended or the scenario's duration is over; return the outcome.

        Raises HeliographError if the cluster does not start or a job is refused.
        """
        await self.stage.start()
        try:
            at_once = [change for change in self._timeline.changes if change.at <= 0]
            for change in at_once:
                await self._apply(change)
            await self._wait_for_edges()
            self._began = self._world.monotonic()
            self.observer.begin(self._world.now())
            self.ready = True
            async with asyncio.TaskGroup() as group:
                changing = group.create_task(self._apply_all(self._timeline.changes[len(at_once) :]))
                for job in self.scenario.jobs:
                    self.observer.plan(job.name, job.rounds)
                creating = [group.create_task(self._create(job)) for job in self.scenario.jobs]
                await self._wait_for_jobs()
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
        if lookup(recorded.topic)[0] in _AWAITED:
            self._changed.set()
        if self._tick is not None:
            self._tick(self)

    async def _wait_for_edges(self) -> None:
        """Wait for all edges that can be online; a job created earlier would start without them."""
        away = {change.target: None for change in self._timeline.changes
                if change.at <= 0 and change.action in ("link", "process")}  # fmt: skip
        missing = [name for name in self._edges if name not in away]
        deadline = self._world.monotonic() + READY_TIMEOUT
        while missing:
            if self.observer.online(missing[-1]):
                missing.pop()
                continue
            left = deadline - self._world.monotonic()
            if left <= 0:
                missing = [name for name in missing if not self.observer.online(name)]
                some = ", ".join(missing[:10])
                raise HeliographError(f"{len(missing)} edges were not online after {READY_TIMEOUT:g} s: {some}")
            await self._wait(left)

    async def _wait_for_jobs(self) -> None:
        names = [job.name for job in self.scenario.jobs]
        while names := [name for name in names if not self.observer.ended(name)]:
            left = self.scenario.duration - self.seconds
            if left <= 0:
                return
            await self._wait(left)

    async def _wait(self, most: float) -> None:
        """Wait for the next awaited message, at most ``most`` seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(most):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _apply_all(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            await self._sleep_until(change.at)
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
            stage.set_behaviour(target, change.behaviour if on else None, change.amount)
        else:
            stage.set_slowdown(target, change.amount if on else 1.0)

    async def _create(self, job: Job) -> None:
        await self._sleep_until(job.at)
        bus = self.stage.bus()
        document = federated_task(job, list(self._edges), self._naming)
        await self._retry(partial(self._request_creation, bus, "models", model(job)))
        await self._retry(partial(self._request_creation, bus, "jobs", document))

    async def _request_creation(self, bus: Bus, plural: str, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        reply = await bus.request(REQUEST.at(resource=plural, verb="create"), body, REPLY_TIMEOUT)
        result_of(reply.body)

    async def _retry(self, request: Callable[[], Awaitable[None]]) -> None:
        """Repeat a request until it is answered, because broker and coordinator may be down."""
        while True:
            try:
                return await request()
            except Unreachable:
                await self._world.sleep(RETRY_AFTER)

    async def _sleep_until(self, at: float) -> None:
        if (left := at - self.seconds) > 0:
            await self._world.sleep(left)
