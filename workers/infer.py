"""The inference worker, on a service's edge and in the cloud: run the user's script, which serves the model, and
connect it to the topics. Count its answers, and publish the counts every second in which they have changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from heliograph import session
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import (
    Assignment,
    InferenceStats,
    InferTask,
    ServingTask,
    VersionStats,
)
from heliograph.bus.contract.subjects import FROM_ANOTHER_ACCOUNT
from heliograph.bus.reply import reply_of
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.inference.counts import VersionCounts
from heliograph.inference.offload import Offloader
from heliograph.inference.serving import Serving
from heliograph.inference.serving_queue import PendingRequest
from heliograph.workers.hard_samples import HardSamples
from heliograph.workers.runtime import Runtime, WorkerEnvironment, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of
from heliograph.workers.version_loader import VersionLoader

PUBLISH_EVERY = 1.0
"""Seconds between two publications of the counts, at least."""
QUEUE = "big-model"


class InferenceHost:
    """One service's worker. The script's thread calls the methods of ``script.Host``, the event loop the rest."""

    def __init__(self, runtime: Runtime, first: Assignment) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._first = first
        self._side: Literal["edge", "cloud"] = "edge" if isinstance(first.task, InferTask) else "cloud"
        self._spec = _task_of(first).inference
        self.offloader = Offloader(
            runtime.bus, first.task.job, runtime.environment.worker, runtime.world.telemetry
        )
        offload = self.offloader.ask if self._side == "edge" else None
        hard_samples = HardSamples(runtime, lambda: self.serving.spec.hard_samples_to, lambda: self.serving.model)
        self.serving = Serving(first.task.job, self._spec, self._loop, runtime.world, self._send_answers, offload, log,
                               hard_samples.send)  # fmt: skip
        self._versions = VersionLoader(first, self.code, self.serving, runtime.world)
        self._failures = Failures(log)
        self.finished = asyncio.Event()

    @property
    def code(self) -> Sequence[Path]:
        return self._runtime.environment.code

    def begin(self) -> Assignment:
        session.inference[self._side] = self.serving
        return self._first

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        return end_of(error)

    def failed(self, line: str, final: bool) -> None:
        report = self._runtime.report_state("failed", detail=line, final=final)
        asyncio.run_coroutine_threadsafe(report, self._loop).result()

    def finish(self) -> None:
        self._loop.call_soon_threadsafe(self.finished.set)

    async def assign(self, assignment: Assignment) -> None:
        """Apply an assignment: new settings and weights take effect between two requests."""
        if assignment.ended:
            self.serving.enqueue(None)
            return
        task = _task_of(assignment)
        await self._versions.follow(assignment)
        if task.inference != self._spec:
            self._spec = task.inference
            self.serving.enqueue(task.inference)

    async def follow(self) -> None:
        """Take requests until cancelled."""
        service = self._first.task.job
        if self._side == "edge":
            await self.offloader.listen()  # the first hard sample has no time for it
            subscribed = self._runtime.bus.subscribe(topics.INFERENCE_REQUEST.filter(service=service))
        else:
            subscribed = self._runtime.bus.subscribe(topics.BIG_MODEL.filter(service=service), queue=QUEUE)
        async with subscribed as messages:
            log(f"serves {service}")
            async for message in messages:
                with self._failures.contain(message.topic):
                    self._receive(message)

    async def until_finished(self) -> None:
        """Return when the script has ended."""
        await self.finished.wait()

    async def publish_counts(self) -> None:
        """Publish the counts whenever they have changed, until cancelled."""
        published = None
        while True:
            stats = self._stats()
            if stats != published:
                await self._runtime.send(
                    topics.INFERENCE_STATS, stats, service=stats.service, edge=stats.edge, worker=stats.worker
                )
                published = stats
            await self._runtime.world.sleep(PUBLISH_EVERY)

    def _receive(self, message: Message) -> None:
        try:
            tree = parse(message.body, message.topic)
        except Refused as error:
            tree = error  # the requester gets the refusal, where it has a reply address
        try:
            require_live(message)
            root = self._runtime.environment.root
            reply_to = _answer_address(message) if self._side == "cloud" else reply_of(message, tree, root)
        except Refused as error:
            self.serving.counts.errors += 1
            log(f"refused: {error}")
            return
        if reply_to:
            self.serving.receive(message, tree, reply_to)

    async def _send_answers(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        for request, body in answers:
            await self._runtime.bus.publish(request.reply_to, body, correlation=request.correlation, sure=False)

    async def close(self) -> None:
        """End what is under way."""
        await self._versions.close()
        await self.offloader.close()

    def _stats(self) -> InferenceStats:
        environment, counts = self._runtime.environment, self.serving.counts
        return InferenceStats(
            service=self._first.task.job,
            service_uid=self._first.task.job_uid,
            edge=environment.edge,
            worker=environment.worker,
            incarnation=self._runtime.incarnation,
            by_edge=counts.by_edge,
            by_cloud=counts.by_cloud,
            hard=counts.hard,
            degraded=counts.degraded,
            errors=counts.errors,
            compared=counts.compared,
            agreed=counts.agreed,
            bytes_offloaded=counts.bytes_offloaded,
            latencies={str(bucket): count for bucket, count in sorted(counts.latencies.items())},
            model=self.serving.model,
            trouble=self.serving.health.trouble[:4000],
            ready=self.serving.health.ready,
            versions={version: _version_stats(counted) for version, counted in list(counts.versions.items())},
            drift=dict(counts.drift),
        )


def _version_stats(counted: VersionCounts) -> VersionStats:
    return VersionStats(
        requests=counted.requests,
        errors=counted.errors,
        compared=counted.compared,
        agreed=counted.agreed,
        rejected=counted.rejected,
        latencies={str(bucket): count for bucket, count in sorted(counted.latencies.items())},
    )


def _task_of(assignment: Assignment) -> ServingTask:
    """Return the task; an agent launches this program for the two serving roles only."""
    assert isinstance(assignment.task, ServingTask)
    return assignment.task


def _answer_address(message: Message) -> str | None:
    """Return the address for the deep model's answer: one of the edge and service that the request came from.

    A broker without accounts checks no reply address. Raise Refused for another one: this worker may publish where an
    edge may not. Of a request from another account the broker has made the address: it leads back to the asker alone.
    """
    address = message.reply_to
    if address is None or address.startswith(FROM_ANOTHER_ACCOUNT):
        return address
    asked, answered = topics.BIG_MODEL.match(message.topic) or {}, topics.BIG_MODEL_ANSWER.match(address) or {}
    if any(answered.get(name) != value for name, value in asked.items()):
        raise Refused("bad-reply-topic", topic=message.topic, field="reply", got=address,
                      expected=topics.BIG_MODEL_ANSWER.filter(**asked))  # fmt: skip
    return address


async def serve(ready: Callable[[InferenceHost], None]) -> None:
    """Connect, wait for the first assignment, hand the host to ``ready``, then serve until the service ends."""
    async with Runtime(WorkerEnvironment.from_environment(), World()) as runtime:
        assignments: asyncio.Queue[Assignment] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:  # a part that fails ends the others, and the wait for an assignment
            following = group.create_task(runtime.assignments(assignments.put, ServingTask))
            first = await assignments.get()
            host = InferenceHost(runtime, first)
            await host.assign(first)
            ready(host)

            async def follow_assignments() -> None:
                while True:
                    await host.assign(await assignments.get())

            parts = [group.create_task(part()) for part in (host.follow, host.publish_counts, follow_assignments)]
            await host.until_finished()
            await cancel_and_wait(following, *parts)
            await host.close()


def main() -> int:
    """Run the worker process, and return its exit code."""
    sys.setswitchinterval(0.0005)  # the loop's and the model's thread switch at each request
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
