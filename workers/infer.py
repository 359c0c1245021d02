"""The inference worker, on a service's edge and in the cloud: run the user's script, which serves the model, and
connect it to the topics. Count its answers, and publish the counts every second in which they have changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from heliograph import session
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import (
    Assignment,
    CandidateModel,
    DeepAnswer,
    HardSample,
    InferenceStats,
    InferTask,
    ServingTask,
    VersionStats,
)
from heliograph.bus.contract.resources.base import MAX_SAMPLE, WeightsRef
from heliograph.bus.contract.weights_file import INLINE, dumps
from heliograph.bus.reply import reply_of
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.inference.counts import VersionCounts
from heliograph.inference.inputs import plain
from heliograph.inference.offload import Offloader
from heliograph.inference.predictors.samples import columns_in, sample_array
from heliograph.inference.serving import NewCandidate, NewModel, PendingRequest, Serving
from heliograph.inference.shallow import Answer
from heliograph.labelling.samples import columns_text
from heliograph.workers.runtime import Runtime, WorkerEnvironment, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of
from heliograph.workers.trial import Trial, objection
from heliograph.workers.weights import read_version

PUBLISH_EVERY = 1.0
"""Seconds between two publications of the counts, at least."""
MAX_SAMPLES_UNDER_WAY, MAX_BYTES_UNDER_WAY = 256, 32 << 20
"""Hard samples on their way to the node's disk, at most; further ones are left out."""
MAX_SCORES = 1024
"""Scores that a hard sample carries, at most."""
QUEUE = "big-model"


class InferenceHost:
    """One service's worker. The script's thread calls the methods of ``script.Host``, the event loop the rest."""

    def __init__(self, runtime: Runtime, first: Assignment) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._first = first
        self._side: Literal["edge", "cloud"] = "edge" if isinstance(first.task, InferTask) else "cloud"
        self._spec = _task_of(first).inference
        self._model = ""
        self._candidate: CandidateModel | None = None
        self._trial: asyncio.Task[None] | None = None
        self.offloader = Offloader(
            runtime.bus, first.task.job, runtime.environment.worker, runtime.world.telemetry
        )
        offload = self.offloader.ask if self._side == "edge" else None
        self.serving = Serving(first.task.job, self._spec, self._loop, runtime.world, self._send_answers, offload, log,
                               self._send_hard_sample)  # fmt: skip
        self._failures = Failures(log)
        self._samples_under_way = 0
        self._bytes_under_way = 0
        """Of large samples."""
        self._overrun_logged = False
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
        await self._load(task, assignment.model_file)
        if isinstance(task, InferTask):
            await self._load_candidate(task.candidate, assignment.files)
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

    async def _send_hard_sample(self, x: Any, scores: Any, deep: Answer | None = None) -> None:
        """Send a hard sample to the incremental job that the service names."""
        job = self.serving.spec.hard_samples_to
        if job is None or self._is_behind:
            if job is not None and not self._overrun_logged:
                self._overrun_logged = True
                log("hard samples come faster than the node's disk takes them: some are left out; raise the rule's bar")
            return
        sample = HardSample(
            job=job,
            edge=self._runtime.environment.edge,
            scores=_scores(scores),
            model=self.serving.model,
            answer=_deep_answer(deep),
            **_content(x),
        )
        size = len(sample.tensor or b"")
        self._samples_under_way += 1
        self._bytes_under_way += size
        try:
            await self._runtime.send(topics.HARD_SAMPLE, sample, job=job, edge=self._runtime.environment.edge)
        finally:
            self._samples_under_way -= 1
            self._bytes_under_way -= size

    @property
    def _is_behind(self) -> bool:
        """Whether so many hard samples wait for the node's disk that further ones are left out."""
        return (self._samples_under_way >= MAX_SAMPLES_UNDER_WAY
                or self._bytes_under_way >= MAX_BYTES_UNDER_WAY)  # fmt: skip

    async def _load(self, task: ServingTask, model_file: str) -> None:
        if task.model is None or task.model.digest == self._model:
            return
        digest = self._model = task.model.digest
        source = task.model.inline if task.model.inline is not None else Path(model_file)
        try:
            name = f"model {digest[:12]}"
            arrays, classes = await self._runtime.world.in_thread(read_version, source, name, task.served)
        except Exception as error:  # whatever is wrong with the file
            self.serving.health.weights_failed(digest, error)
        else:
            self.serving.enqueue(NewModel(digest, arrays, classes))

    async def _load_candidate(self, wanted: CandidateModel | None, files: Mapping[str, str]) -> None:
        """Let another version answer a share of the requests, or end that."""
        if wanted == self._candidate:
            return
        self._candidate = wanted
        await self.end_trial()
        self.serving.enqueue(NewCandidate())  # the earlier one ends first
        if wanted is not None:
            self._trial = asyncio.create_task(self._try(wanted, files))  # other changes do not wait for it

    async def _try(self, wanted: CandidateModel, files: Mapping[str, str]) -> None:
        """Let a candidate answer once a process of its own has stood its trial."""
        model = wanted.model
        source = model.inline if model.inline is not None else Path(files.get(model.digest, ""))
        asked = self.serving.answered
        topic, body = (asked.topic, asked.body) if asked is not None else ("", b"")
        world = self._runtime.world
        try:
            name = f"model {model.digest[:12]}"
            why = await objection(Trial(self._first, self.code, model.digest, source, topic, body), world)
            if not why:  # a runtime of native code has opened it in the trial's process first
                arrays, classes = await world.in_thread(read_version, source, name, _task_of(self._first).served)
        except Exception as error:  # whatever is wrong with the file, or a process that cannot be started
            why = str(error) or type(error).__name__
        if why:
            self.serving.enqueue(NewCandidate(model.digest, rejected=why))
        else:
            self.serving.enqueue(NewCandidate(model.digest, arrays, wanted.share, wanted.salt, classes))

    async def end_trial(self) -> None:
        """End the trial that is under way."""
        if self._trial is not None:
            await cancel_and_wait(self._trial)
            self._trial = None

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


def _content(x: Any) -> dict[str, Any]:
    """Return a sample's SHA-256, and the sample itself where it is small enough to travel in an event."""
    value: Any
    if isinstance(x, str):
        data, key, value = x.encode(), "text", x
    elif (row := columns_in(x)) is not None:
        cells = {name: plain(value) if isinstance(value, np.generic) else value for name, value in row.items()}
        columns = {name: None if value != value else value for name, value in cells.items()}  # NaN: missing
        data, key, value = columns_text(columns).encode(), "columns", columns
    else:
        data, key = dumps({"x": sample_array(x)}), "data"
        value = None
    found: dict[str, Any] = {"sample": sha256(data).hexdigest()}
    if key == "data" and INLINE < len(data) <= MAX_SAMPLE:
        return found | {"tensor": data}
    if len(data) > INLINE:
        return found
    if key == "data":
        value = WeightsRef(digest=found["sample"], size=len(data), inline=data)
    return found | {key: value}


def _scores(scores: Any) -> list[float]:
    return [float(score) for score in np.ravel(np.asarray(scores))[:MAX_SCORES]]


def _deep_answer(deep: Answer | None) -> DeepAnswer | None:
    """Return the deep model's answer, as far as a label may follow from it."""
    if deep is None:
        return None
    scores = np.asarray(deep.scores if deep.scores is not None else [])
    result = deep.result if isinstance(deep.result, (str, bool, int, float)) else None
    return DeepAnswer(
        result=result[:4096] if isinstance(result, str) else result,
        scores=_scores(scores) if scores.dtype.kind in "fiub" and np.isfinite(scores).all() else [],
    )


def _answer_address(message: Message) -> str | None:
    """Return the address for the deep model's answer: one of the edge and service that the request came from.

    The broker checks no reply address. Raise Refused for another one: this worker may publish where an edge may not.
    """
    address = message.reply_to
    if address is None:
        return None
    asked, answered = topics.BIG_MODEL.match(message.topic) or {}, topics.ANSWER.match(address) or {}
    if any(answered.get(name) != value for name, value in asked.items()):
        raise Refused("bad-reply-topic", topic=message.topic, field="reply", got=address,
                      expected=topics.ANSWER.filter(**asked))  # fmt: skip
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
            await host.end_trial()
        await host.offloader.close()


def main() -> int:
    """Run the worker process, and return its exit code."""
    sys.setswitchinterval(0.0005)  # the loop's and the model's thread switch at each request
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
