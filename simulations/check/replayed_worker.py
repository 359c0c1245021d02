"""A replayed worker: it behaves as in the agent's recorded reports, and sends its recorded events again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment
from heliograph.core.tasks import cancel_and_wait, wait_for
from heliograph.core.world import World
from heliograph.simulations.check.loaded_trace import RecordedMessage
from heliograph.simulations.check.recorded_node import NO_OUTPUT, SOON, Crash, RecordedNode, WorkerState
from heliograph.workers.runtime import Runtime, WorkerEnvironment

GONE_WITHIN = 4.5
"""Longest duration of its finish, in seconds; its agent ends it after five."""
WaitUntil = Callable[[float], Awaitable[None]]


class PendingEvents:
    """The events that a node's workers have not sent yet; they outlive the workers' processes."""

    def __init__(self, node: RecordedNode, events: list[RecordedMessage], weights: dict[str, bytes]) -> None:
        self.node = node
        self.weights = weights
        self.begun = 0.0
        """Start of the present agent process; reports of an earlier one do not describe its workers."""
        self._left: dict[str, list[RecordedMessage]] = {}
        self._assigned: dict[str, dict[tuple[Any, ...], None]] = {}
        for each in sorted(events, key=lambda each: (each.emitted, each.number)):
            worker = each.source.split("/")[1]
            self._left.setdefault(worker, []).append(each)

    @property
    def unsent(self) -> int:
        """Number of events that no worker has sent."""
        return sum(map(len, self._left.values()))

    def note_assignment(self, assignment: Assignment) -> None:
        task = assignment.task
        done = self._assigned.setdefault(task.worker, {})
        done[()] = None
        if task.is_due:
            done[task.job_uid, task.revision] = None

    def due(self, worker: str) -> list[RecordedMessage]:
        """Return the events that the worker may send; an event of a round may be sent once the round is assigned."""
        asked = self._assigned.get(worker, {})
        return [each for each in self._left.get(worker, []) if _needs(each) in asked]

    def remove(self, worker: str, message: RecordedMessage) -> None:
        self._left[worker].remove(message)


async def play_worker(
    launch: WorkerEnvironment, world: World, pending: PendingEvents, wait_until: WaitUntil, now: Callable[[], float]
) -> int:
    """Play one process of a worker, and return its exit code."""
    begun = now()
    states = pending.node.worker_states(launch.worker, pending.begun)
    crash = await _wait_for_start(states, begun, wait_until)
    if crash is not None:
        return _crashed(crash, world)
    async with Runtime(launch, world) as runtime:
        worker = _ReplayedWorker(runtime, pending, wait_until, now)
        following = asyncio.ensure_future(runtime.assignments(worker.receive))
        living = asyncio.ensure_future(worker.follow_reports([each for each in states if each.at > now()]))
        sending = asyncio.ensure_future(worker.send())
        try:
            await asyncio.wait({following, living, sending}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await worker.finish(states)
                return 0
            if living.done() and (crash := living.result()) is not None:
                return _crashed(crash, world)
            return 0
        finally:
            await cancel_and_wait(following, living, sending)


async def _wait_for_start(states: list[WorkerState], begun: float, wait_until: WaitUntil) -> Crash | None:
    """Wait until the process said hello; return its crash if it never did."""
    before = [each for each in states if each.at <= begun]
    if before and before[-1].state == "running":
        return None
    for each in states:
        if each.at > begun and (each.state in ("running", "failed") or each.left is not None):
            await wait_until(each.at - SOON)
            return None
        if each.at > begun and each.state == "backing-off":
            await wait_until(each.at - SOON)
            return each.crash
    return None


class _ReplayedWorker:
    """A running worker."""

    def __init__(
        self, runtime: Runtime, pending: PendingEvents, wait_until: WaitUntil, now: Callable[[], float]
    ) -> None:
        self._runtime = runtime
        self._pending = pending
        self._wait_until = wait_until
        self._now = now
        self._name = runtime.environment.worker
        self._changed = asyncio.Event()

    async def receive(self, assignment: Assignment) -> None:
        if not assignment.ended:
            self._pending.note_assignment(assignment)
            self._changed.set()

    async def follow_reports(self, states: list[WorkerState]) -> Crash | None:
        """Follow the reports from now on: report failures, and return the crash that ended the process."""
        for each in states:
            await self._wait_until(each.at - SOON)
            if each.state == "backing-off":
                return each.crash
            if each.state == "failed":
                await self._runtime.report_state("failed", each.crash.last, final=each.final)
                return each.crash
            if (left := each.left) is not None:
                await self._runtime.report_state("left", round=left.round)
                return left.crash
            if each.state == "running" and each.detail and not each.detail.startswith("model "):
                await self._runtime.report_state("failed", each.detail)
        await asyncio.Event().wait()
        return None

    async def send(self) -> None:
        """Send each event at its time, or at once if its time has passed."""
        while True:
            self._changed.clear()
            due = self._pending.due(self._name)
            if not due:
                await self._changed.wait()
            elif (wait := due[0].emitted - self._now()) <= 0 or not await wait_for(self._changed, wait):
                self._pending.remove(self._name, due[0])
                await self._send(due[0])

    async def finish(self, states: list[WorkerState]) -> None:
        """Wait as long as the recorded process took to end after its job."""
        now = self._now()
        gone = next((each.at for each in states if each.at > now and each.state in ("", "starting")), now + GONE_WITHIN)
        await self._wait_until(min(gone - SOON, now + GONE_WITHIN))

    async def _send(self, message: RecordedMessage) -> None:
        payload = message.topic.validate(message.data, message.address)
        ref = message.data.get("weights") or {}
        data = self._pending.weights.get(ref.get("digest", ""))
        if "inline" not in ref and data is not None:
            file = self._runtime.environment.directory / "staged" / ref["digest"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        await self._runtime.send(message.topic, payload, **message.params)


def _crashed(crash: Crash, world: World) -> int:
    if crash.last != NO_OUTPUT:
        world.say(crash.last)
    return crash.code


def _needs(message: RecordedMessage) -> tuple[Any, ...]:
    if message.topic in (topics.MODEL_UPDATE, topics.EVALUATION):
        return message.data.get("job_uid"), message.data.get("round")
    return ()
