"""A worker that is played: it does what the agent's reports tell of it, and sends again what was recorded of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment
from heliograph.core.tasks import cancel_and_wait, wait_for
from heliograph.core.world import World
from heliograph.simulations.check.material import Heard
from heliograph.simulations.check.recorded_node import SOON, Crash, Moment, Node
from heliograph.workers.runtime import Runtime, WorkerEnvironment

GONE_WITHIN = 4.5
"""Seconds that it may take to finish: its agent ends it after five."""
Until = Callable[[float], Awaitable[None]]


class Script:
    """What the workers of a node have still to send; it outlives their processes."""

    def __init__(self, node: Node, events: list[Heard], weights: dict[str, bytes]) -> None:
        self.node = node
        self.weights = weights
        self.begun = 0.0
        """When the present agent process was started: reports of the one before tell nothing of its workers."""
        self._left: dict[str, list[Heard]] = {}
        self._assigned: dict[str, dict[tuple[Any, ...], None]] = {}
        for each in sorted(events, key=lambda each: (each.told, each.number)):
            worker = each.source.split("/")[1]
            self._left.setdefault(worker, []).append(each)

    @property
    def unsent(self) -> int:
        """How many events no worker has sent."""
        return sum(map(len, self._left.values()))

    def assigned(self, assignment: Assignment) -> None:
        task = assignment.task
        done = self._assigned.setdefault(task.worker, {})
        done[()] = None
        if task.is_due:
            done[task.job_uid, task.revision] = None

    def due(self, worker: str) -> list[Heard]:
        """What the worker may send: what belongs to a round only once it was asked for."""
        asked = self._assigned.get(worker, {})
        return [each for each in self._left.get(worker, []) if _needs(each) in asked]

    def sent(self, worker: str, heard: Heard) -> None:
        self._left[worker].remove(heard)


async def play(
    environment: dict[str, str], world: World, script: Script, until: Until, now: Callable[[], float]
) -> int:
    """One process of a worker; returns its exit code."""
    launch = WorkerEnvironment.from_environment(environment)
    begun = now()
    life = script.node.life(launch.worker, script.begun)
    crash = await _starts(life, begun, until)
    if crash is not None:
        return _crashed(crash, world)
    async with Runtime(launch, world) as runtime:
        worker = _Played(runtime, script, until, now)
        following = asyncio.ensure_future(runtime.assignments(worker.take))
        living = asyncio.ensure_future(worker.live([each for each in life if each.at > now()]))
        sending = asyncio.ensure_future(worker.send())
        try:
            await asyncio.wait({following, living, sending}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await worker.finish(life)
                return 0
            if living.done() and (crash := living.result()) is not None:
                return _crashed(crash, world)
            return 0
        finally:
            await cancel_and_wait(following, living, sending)


async def _starts(life: list[Moment], begun: float, until: Until) -> Crash | None:
    """Returns when the process said hello; how it ended where it never did."""
    before = [each for each in life if each.at <= begun]
    if before and before[-1].state == "running":
        return None
    for each in life:
        if each.at > begun and each.state == "running":
            await until(each.at - SOON)
            return None
        if each.at > begun and each.state == "backing-off":
            await until(each.at - SOON)
            return each.crash
    return None


class _Played:
    """A worker that has said hello."""

    def __init__(self, runtime: Runtime, script: Script, until: Until, now: Callable[[], float]) -> None:
        self._runtime = runtime
        self._script = script
        self._until = until
        self._now = now
        self._name = runtime.launch.worker
        self._changed = asyncio.Event()

    async def take(self, assignment: Assignment) -> None:
        if not assignment.ended:
            self._script.assigned(assignment)
            self._changed.set()

    async def live(self, life: list[Moment]) -> Crash | None:
        """What its reports tell from now on: that it failed, or how it ended."""
        for each in life:
            await self._until(each.at - SOON)
            if each.state == "backing-off":
                return each.crash
            if each.state == "running" and each.detail and not each.detail.startswith("model "):
                await self._runtime.say("failed", each.detail)
        await asyncio.Event().wait()
        return None

    async def send(self) -> None:
        """Each event at its time, or at once where that has passed."""
        while True:
            self._changed.clear()
            due = self._script.due(self._name)
            if not due:
                await self._changed.wait()
            elif (wait := due[0].told - self._now()) <= 0 or not await wait_for(self._changed, wait):
                self._script.sent(self._name, due[0])
                await self._say(due[0])

    async def finish(self, life: list[Moment]) -> None:
        """The job is over; the process takes as long as it took."""
        now = self._now()
        gone = next((each.at for each in life if each.at > now and each.state in ("", "starting")), now + GONE_WITHIN)
        await self._until(min(gone - SOON, now + GONE_WITHIN))

    async def _say(self, heard: Heard) -> None:
        payload = heard.topic.validate(heard.data, heard.address)
        ref = heard.data.get("weights") or {}
        data = self._script.weights.get(ref.get("digest", ""))
        if "inline" not in ref and data is not None:
            file = self._runtime.launch.directory / "staged" / ref["digest"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        await self._runtime.send(heard.topic, payload, **heard.params)


def _crashed(crash: Crash, world: World) -> int:
    if crash.last != "no output":
        world.say(crash.last)
    return crash.code


def _needs(heard: Heard) -> tuple[Any, ...]:
    if heard.topic in (topics.MODEL_UPDATE, topics.EVALUATION):
        return heard.data.get("job_uid"), heard.data.get("round")
    return ()
