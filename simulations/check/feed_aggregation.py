"""The check of the aggregation worker: its inputs are assignments and updates; its outputs are closed rounds, whose
models must have the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heliograph.bus.contract import close_record, topics
from heliograph.bus.contract.buckets import MODELS, ROUNDS
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.simulations.check.compare import TimedMessage
from heliograph.simulations.check.findings import ReplayRun, compare_messages, nothing_to_feed, recorded_of
from heliograph.simulations.check.loaded_trace import LoadedTrace, RecordedMessage, references
from heliograph.simulations.check.replay_stage import CLOUD_URL, Action, ReplayStage, tree_of
from heliograph.simulations.virtual.loop import Process, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually
from heliograph.workers.aggregation.worker import Aggregator
from heliograph.workers.runtime import Runtime, WorkerEnvironment

Round = tuple[str, int]
"""Job uid and round."""
CLOSED_WITHIN = 1.0
POLL_EVERY = 0.002
SECRET = b"played"
HINT = "begin recording before the job is created, or record with --past"


@dataclass
class _Worker:
    """One job's aggregation worker.

    Attributes:
        tasks: its tasks with times and numbers; None for the end of the job.
        starts: times and numbers of the first messages of its restarted processes.
    """

    name: str
    node: str
    tasks: list[tuple[float, int, dict[str, Any] | None]] = field(default_factory=list)
    starts: list[tuple[float, int]] = field(default_factory=list)

    @property
    def job(self) -> str:
        return next((str(task["job"]) for _, _, task in self.tasks if task is not None), "")

    def rounds(self) -> set[Round]:
        return {(task["job_uid"], task["round"]) for _, _, task in self.tasks if task is not None}


def check_aggregation(trace: LoadedTrace, job: str = "") -> ReplayRun:
    """Check each job's worker in turn. Raises Refused if the trace has no aggregation task."""
    workers = [each for each in _workers(trace) if each.job]
    if not workers:
        raise nothing_to_feed(trace, "aggregation worker", "event/assignment/{worker} or edge/{edge}/down/task with "
                              "role aggregate")  # fmt: skip
    chosen = [each for each in workers if job in ("", each.job)]
    if not chosen:
        known = ", ".join(dict.fromkeys(each.job for each in workers))
        raise Refused("unknown-job", topic=str(trace.path), field="job", expected=f"one of {known}", got=job)
    found = ReplayRun("aggregation")
    for worker in chosen:
        found.add(_check(trace, worker))
    return found


def _check(trace: LoadedTrace, worker: _Worker) -> ReplayRun:
    updates = trace.of(topics.MODEL_UPDATE, job=worker.job)
    rounds = worker.rounds()
    fetchable, missing = _fetchable(updates, trace)
    closed = trace.of(topics.AGGREGATION, job=worker.job)
    recorded = [each for each in closed if (each.data.get("job_uid"), each.data.get("round")) in rounds]
    if len(recorded) < len(closed):
        missing.append(f"job {worker.job}: {len(closed) - len(recorded)} closed rounds have no assignment in the "
                       f"trace; {HINT}")  # fmt: skip
    missing += _missing_updates(recorded, updates, worker.job)
    missing += _missing_bases(worker, closed, trace)
    missing += _missing_state(worker, trace)
    published, failures = run_virtually(lambda loop: _play(loop, trace, worker, fetchable))
    found = compare_messages("aggregation", recorded_of(recorded), published, trace.end)
    found.inputs = len(worker.tasks) + len(updates)
    found.fed = len(worker.tasks) + len(fetchable)
    found.missing += missing + failures
    return found


async def _play(
    loop: VirtualLoop, trace: LoadedTrace, worker: _Worker, updates: list[RecordedMessage]
) -> tuple[list[TimedMessage], list[str]]:
    with TemporaryDirectory(prefix="heliograph-check-") as directory:
        stage = ReplayStage(loop)
        stage.record(topics.AGGREGATION.filter(job=worker.job))
        for each in trace.messages:
            for ref in references(each.data):
                if ref.digest in trace.weights:
                    stage.hub.blobs.setdefault(ref.bucket or MODELS, {})[ref.digest] = trace.weights[ref.digest]
        for closed in _closed_before(worker, trace):
            stage.store(ROUNDS, close_record.key_of(closed.job_uid, closed.round), close_record.dump(closed))
        agent = _PlayedAgent(stage, worker, Path(directory), _offset(worker, trace))
        actions = [Action(at, number, partial(agent.start)) for at, number in worker.starts]
        actions += [Action(at, number, partial(agent.assign, task)) for at, number, task in worker.tasks]
        others = [each for each in trace.of(topics.MODEL_UPDATE) if each.params["job"] != worker.job]
        actions += [Action(each.at, each.number, partial(stage.publish, each)) for each in (*updates, *others)]
        await stage.play(actions, trace.end)
        return stage.outcome()


def _closed_before(worker: _Worker, trace: LoadedTrace) -> Iterator[Aggregation]:
    """Return the rounds closed before the first assigned one; their records name the state of an algorithm."""
    first: dict[str, int] = {}
    for _, _, task in worker.tasks:
        if task is not None:
            first.setdefault(task["job_uid"], task["round"])
    for each in trace.of(topics.AGGREGATION, job=worker.job):
        closed = topics.AGGREGATION.validate(each.data, each.address)
        if closed.round < first.get(closed.job_uid, 0):
            yield closed


class _PlayedAgent:
    """An agent that launches the worker and sends it its tasks, also on request."""

    def __init__(self, stage: ReplayStage, worker: _Worker, directory: Path, offset: int) -> None:
        self._stage = stage
        self._worker = worker
        self._directory = directory
        self._offset = offset
        self._process: Process | None = None
        self._newest: dict[str, Any] | None = None
        self._address = topics.ASSIGNMENT.at(worker=worker.name)
        self._world = stage.worlds.world(Process(f"agent-{worker.node}"))
        (directory / "models").mkdir()
        stage.hub.receivers.add(topics.WORKER.at(worker=worker.name), "", self._on_worker_message)

    def start(self) -> None:
        """Start the worker's process, after killing the one before."""
        if self._process is not None:
            self._stage.loop.kill(self._process)
        process = self._process = Process(f"agent-{self._worker.node}/{self._worker.name}")
        world = self._stage.worlds.world(process)
        launch = WorkerEnvironment(CLOUD_URL, topics.DEFAULT_ROOT, self._worker.node, self._worker.name, SECRET,
                        self._directory / "worker", self._directory / "models")  # fmt: skip

        async def aggregate() -> None:
            async with Runtime(launch, world) as runtime:
                await Aggregator(runtime).run()

        self._stage.run(process, aggregate())

    async def assign(self, task: dict[str, Any] | None) -> None:
        if task is None:
            ended = self._newest
            if ended is None:
                return
            self._newest = ended | {"ended": True}
        else:
            await self._wait_for_close(task)
            collect = task.get("collect")
            if collect is not None:
                task = task | {"collect": collect | {"start": max(1, int(collect["start"]) - self._offset)}}
            self._newest = {"task": task, "edge": self._worker.node}
            if self._process is None or self._process.dead:
                self.start()
                await self._stage.loop.wait_until_idle()  # the worker requests its assignment
                return
        self._send_assignment()

    async def _wait_for_close(self, task: dict[str, Any]) -> None:
        """Wait a moment for the close of the round before, which caused this task, in case the clocks differ."""
        before = (self._newest or {}).get("task") or task
        if (before["job_uid"], before["round"]) == (task["job_uid"], task["round"]) or not before.get("active", True):
            return
        deadline = self._stage.loop.time() + CLOSED_WITHIN
        while self._stage.loop.time() < deadline and not any(
            (each.payload.get("job_uid"), each.payload.get("round")) == (before["job_uid"], before["round"])
            for each in self._stage.published
        ):
            await self._stage.wait_until(self._stage.loop.time() + POLL_EVERY)

    def _on_worker_message(self, message: Message) -> None:
        if (tree_of(message) or {}).get("state") == "hello":
            self._send_assignment()

    def _send_assignment(self) -> None:
        if self._newest is None:
            return
        event = Event(self._world.new_id(), f"{self._worker.node}/agent/played", topics.ASSIGNMENT.type, self._newest,
                      self._world.timestamp(), self._address)  # fmt: skip
        self._stage.hub.publish(self._address, Message(self._address, encode(event, key=SECRET)))


def _workers(trace: LoadedTrace) -> list[_Worker]:
    """Return the workers of the assignments on the cloud's broker, or else of the desired documents."""
    found: dict[str, _Worker] = {}
    for each in trace.of(topics.ASSIGNMENT):
        task = each.data.get("task") or {}
        if task.get("role") == "aggregate":
            worker = found.setdefault(task["worker"], _Worker(task["worker"], each.data["edge"]))
            worker.tasks.append((each.at, each.number, None if each.data.get("ended") else task))
    if not found:
        for each in trace.of(topics.TASK):
            _from_desired(each, found)
    for worker in found.values():
        processes: list[str] = []
        for each in trace.of(topics.WORKER, worker=worker.name):
            if each.source not in processes:
                processes.append(each.source)
                if len(processes) > 1:
                    worker.starts.append((each.at, each.number))
    return list(found.values())


def _from_desired(message: RecordedMessage, found: dict[str, _Worker]) -> None:
    edge = message.params["edge"]
    tasks = {each["worker"]: each for each in message.data.get("tasks", []) if each.get("role") == "aggregate"}
    for name, task in tasks.items():
        worker = found.setdefault(name, _Worker(name, edge))
        if not worker.tasks or worker.tasks[-1][2] != task:
            worker.tasks.append((message.at, message.number, task))
    for name, worker in found.items():
        if worker.node == edge and name not in tasks and worker.tasks[-1][2] is not None:
            worker.tasks.append((message.at, message.number, None))


def _offset(worker: _Worker, trace: LoadedTrace) -> int:
    """Return the shift of updates in the replay's stream, which has only the trace's updates."""
    for at, number, task in worker.tasks:
        if task is not None and task.get("collect") is not None:
            updates = trace.of(topics.MODEL_UPDATE)  # of every job: they share the stream
            return int(task["collect"]["start"]) - 1 - sum((each.at, each.number) < (at, number) for each in updates)
    return 0


def _fetchable(updates: list[RecordedMessage], trace: LoadedTrace) -> tuple[list[RecordedMessage], list[str]]:
    """Return the updates with weights, and a line about the others."""
    fetchable: list[RecordedMessage] = []
    lost: list[RecordedMessage] = []
    for each in updates:
        weights = each.data.get("weights") or {}
        there = "inline" in weights or weights.get("digest") in trace.weights
        (fetchable if there else lost).append(each)
    if not lost:
        return fetchable, []
    names = [str((each.data.get("weights") or {}).get("digest", ""))[:12] for each in lost]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return fetchable, [f"weights of {len(lost)} of {len(updates)} updates are not in the trace ({some}): record with "
                   "--with-blobs"]  # fmt: skip


def _missing_updates(closed: list[RecordedMessage], updates: list[RecordedMessage], job: str) -> Iterator[str]:
    """Describe counted updates that are not in the trace."""
    there = {(each.params["edge"], (each.data.get("weights") or {}).get("digest")) for each in updates}
    lost = [
        f"{edge} in round {each.data.get('round')}" for each in closed
        for edge, digest in (each.data.get("counted") or {}).items() if (edge, digest) not in there
    ]  # fmt: skip
    if lost:
        yield f"job {job}: {len(lost)} counted updates are not in the trace ({', '.join(lost[:5])}); {HINT}"


def _missing_bases(worker: _Worker, closed: list[RecordedMessage], trace: LoadedTrace) -> Iterator[str]:
    """Describe base models of rounds that are neither in the trace nor made by an earlier round."""
    made = {(each.data.get("model") or {}).get("digest") for each in closed}
    for _, _, task in worker.tasks:
        model = (task or {}).get("model") or {}
        digest = model.get("digest")
        if digest and "inline" not in model and digest not in made and digest not in trace.weights:
            made.add(digest)
            yield (f"model {digest[:12]}, the base of round {(task or {}).get('round')} of job {worker.job}, is not in "
                   "the trace: record with --with-blobs")  # fmt: skip


def _missing_state(worker: _Worker, trace: LoadedTrace) -> Iterator[str]:
    """Describe the algorithm state that the first round needs and the trace lacks."""
    before = list(_closed_before(worker, trace))
    if before and (state := before[-1].state) is not None and state.digest not in trace.weights:
        yield (f"the state that round {before[-1].round} of job {worker.job} left, {state.digest[:12]}, is not in the "
               "trace: record with --with-blobs")  # fmt: skip
