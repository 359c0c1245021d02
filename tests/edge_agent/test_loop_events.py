"""What a node's loops take from its workers, in virtual time: drifts of their own models, the weights of candidates,
which stay here also when their job is over, damaged candidates, crashes and hanging workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import (
    Candidate,
    Desired,
    EdgeLoop,
    Generation,
    InferenceStats,
    InferTask,
    LearnTask,
    VerdictReport,
    VersionStats,
    WorkerReport,
)
from heliograph.bus.contract.payloads.labels import TEXT
from heliograph.bus.contract.resources import EdgeLearning, GateFigures, IncrementalLearningJobSpec, WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.topics import CANDIDATE, INFERENCE_STATS, VERDICT, Topic
from heliograph.bus.contract.weights_file import write
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.edge_loops import EdgeLoops
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.incremental.loop import FIRST_PAUSE
from heliograph.incremental.shards import LabelledSample

EDGE, JOB, UID = "edge-1", "digits", "uid-1"
BASE, OTHER = (WeightsRef(digest=letter * 64, size=8) for letter in "12")


class Queue:
    """A label queue on the node with five labelled texts; the samples of ``gone`` are deleted."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.read: list[str] = []

    def listen(self, changed: Callable[[], None]) -> None: ...

    def settled(self, name: str) -> list[str]:
        return [sha256(b"%d" % number).hexdigest() for number in range(5)]

    def schema_of(self, name: str) -> LabelSchema:
        return LabelSchema(classes=["cat", "dog"])

    async def labelled(self, name: str, tasks: Sequence[str], classes: Sequence[str]) -> list[LabelledSample]:
        self.read += tasks
        return [LabelledSample(task, TEXT, b"a text", 0) for task in tasks if task not in self.gone]


class Staged:
    """The files that workers have staged: none, all are in their events."""

    async def staged(self, worker: str, digest: str) -> Path | None:
        return None


class Loops:
    """An agent's loops on a node; ``begun`` counts the rounds that began."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self._numbers = count(1)
        self._directory = directory
        self.queue = Queue()
        self.ahead = 0.0
        """Seconds by which the node's clock goes ahead."""
        self.expected: list[str] = []
        """Lines that the agent logs."""
        self.reported: list[WorkerReport] = []
        """What the agent reports of its workers."""
        self._start()

    def _start(self) -> None:
        node = self.node
        world = replace(node.world, now=lambda: node.loop.time() + self.ahead)
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, world, 1 << 20, node.logged.append)
        files = LoopFiles(self._directory, Staged(), world)  # type: ignore[arg-type]
        self.loops = EdgeLoops(EDGE, self.journal, self.queue, files, world, lambda: self.reported,  # type: ignore[arg-type]
                               lambda: None, Failures(node.logged.append))  # fmt: skip
        self._running = node.start(self.loops.run())

    async def restart(self, **job: Any) -> None:
        """Begin the agent's next life, and follow the job again."""
        await self.close()
        self._start()
        self.follow(UID, **job)
        await self.node.settled()

    def follow(self, uid: str = "", train: Any = None, **fields: Any) -> None:
        """Follow the job of a uid; without one no job."""
        learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
        spec = IncrementalLearningJobSpec.model_validate(
            {"models": [learned], "location": "edge", "train": train or {"newSamples": 1000}, **fields}
        )
        loops = {JOB: EdgeLoop(uid=uid, queue=JOB, spec=spec, models={"m": BASE})} if uid else {}
        self.loops.follow(Desired(edge=EDGE, generation=Generation(n=1), loops=loops))

    def take(self, topic: Topic[Any], payload: Any) -> NewEvent:
        """Return what is journalled of a worker's event."""
        number = next(self._numbers)
        at = (topic.at(service=JOB, edge=EDGE, worker="serve") if topic is INFERENCE_STATS
              else topic.at(job=JOB, edge=EDGE))  # fmt: skip
        event = Event(f"id-{number}", f"{EDGE}/worker/life", topic.type, payload.model_dump(exclude_none=True), "", at,
                      sequence=number)  # fmt: skip
        return self.loops.hold_back(topic, event, NewEvent(at, b"the whole event", 1))

    def sees(self, model: WeightsRef, **drift: float) -> None:
        """Take the counts of the worker that serves a model, with the times of its drifts."""
        seen = {f"scores/{name.replace('_', '-')}": time for name, time in drift.items()}
        self.take(INFERENCE_STATS, InferenceStats(
            service=JOB, service_uid="s", edge=EDGE, worker="serve", incarnation="1", model=model.digest, drift=seen,
        ))  # fmt: skip
        self.loops.look()

    async def sends(self, topic: Topic[Any], payload: Any) -> None:
        """Journal a worker's event, and let the loop take it."""
        for key, body in self.take(topic, payload).documents.items():
            await self.journal.save(key, body)
        self.loops.look()
        await self.node.settled()

    async def passes(self, seconds: float) -> None:
        await self.node.world.sleep(seconds)
        await self.node.settled()

    @property
    def state(self) -> EdgeLearning:
        return self.loops.reports()[JOB].state

    @property
    def task(self) -> LearnTask:
        """The task of the learn worker."""
        (task,) = self.loops.applied(Desired(edge=EDGE, generation=Generation(n=1))).tasks
        assert isinstance(task, LearnTask)
        return task

    async def rounds(self) -> int:
        await self.node.settled()
        return self.state.round

    async def close(self) -> None:
        await cancel_and_wait(self._running)
        self.journal.close()


@pytest.fixture
def on_loops(on_node: Any, tmp_path: Path) -> Callable[[Callable[[Loops], Any]], None]:
    def run_test(test: Callable[[Loops], Any]) -> None:
        async def main(node: Any) -> None:
            it = Loops(node, tmp_path)
            await test(it)
            await it.close()
            assert node.logged == it.expected, node.logged

        on_node(main)

    return run_test


def test_a_drift_of_the_served_model_begins_a_round(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"drift": {"of": "scores", "detector": "page-hinkley"}})
        assert await it.rounds() == 0
        now = it.node.world.now()
        it.sees(OTHER, page_hinkley=now + 1)  # a model of another job on this node
        assert await it.rounds() == 0
        it.sees(BASE, psi=now + 1)  # another detector than the job's
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now - 1)  # before the loop began
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now + 1)
        assert await it.rounds() == 1

    on_loops(test)


def _candidate(uid: str, **changes: Any) -> Candidate:
    weights = write({"w": np.zeros(2, np.float32)}, Path("/nonexistent"))
    assert weights.inline is not None
    fields: dict[str, Any] = {"round": 1, "attempt": 1, "base": BASE.digest, "weights": weights, "memory": weights}
    return Candidate(job=JOB, job_uid=uid, edge=EDGE, model="m", **{**fields, **changes})


def test_a_candidates_weights_stay_here_while_its_job_runs_and_after(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        of_job = it.take(CANDIDATE, _candidate(UID))
        assert len(of_job.documents) == 1 and b"inline" not in of_job.body  # the whole of it is the loop's
        it.follow()  # the job has ended, and its worker sends what it has just made
        await it.node.settled()
        late = it.take(CANDIDATE, _candidate(UID))
        told = CANDIDATE.validate(decode(late.body).data, late.topic)
        assert not late.documents and told.weights.inline is None and told.memory is None
        assert told.weights.digest == _candidate(UID).weights.digest  # what is told is that it was made
        it.follow("uid-2")  # another job of that name
        late = it.take(CANDIDATE, _candidate(UID))
        assert not late.documents and CANDIDATE.validate(decode(late.body).data, late.topic).memory is None

    on_loops(test)


def test_a_candidate_of_a_job_in_the_cloud_passes_whole(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        whole = it.take(CANDIDATE, _candidate("uid-of-the-cloud"))
        assert whole.body == b"the whole event" and not whole.documents

    on_loops(test)


def test_samples_that_are_gone_are_read_once_also_after_a_restart(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        samples = it.queue.settled(JOB)
        it.queue.gone = set(samples[:2])
        it.follow(UID, train={"newSamples": 5})
        assert await it.rounds() == 1
        in_shards = it.state.waiting
        assert sorted(it.queue.read) == sorted(samples)
        await it.restart(train={"newSamples": 5})
        assert (it.state.round, it.state.waiting) == (1, in_shards), "those that are gone wait no more"
        it.expected = [f"incremental job {JOB}: 2 labelled samples of queue {JOB} are gone, or have labels that no "
                       "model learns"]  # fmt: skip
        it.follow()
        await it.node.settled()
        assert not [*it.journal.documents("loop")], "nothing is left of a job that is gone"

    on_loops(test)


def test_what_is_kept_of_unusable_samples_is_bounded(on_loops: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.edge_agent.loop_store.MOST_UNUSABLE", 2)

    async def test(it: Loops) -> None:
        samples = it.queue.settled(JOB)
        it.queue.gone = set(samples)
        it.follow(UID, train={"newSamples": 1})
        assert await it.rounds() == 0
        ((_, kept),) = it.journal.documents("loop-unusable/")
        assert kept.hex() == "".join(samples[-2:])
        it.expected = [f"incremental job {JOB}: 5 labelled samples of queue {JOB} are gone, or have labels that no "
                       "model learns"]  # fmt: skip

    on_loops(test)


def _reported(it: Loops, state: str, **fields: Any) -> None:
    task = it.task
    it.reported = [WorkerReport(worker=task.worker, role="learn", job=JOB, job_uid=UID, round=task.round,
                                state=state, **fields)]  # type: ignore[arg-type]  # fmt: skip
    it.loops.look()


def test_a_training_that_crashes_fails_its_round_and_its_samples_are_trained_on_in_the_next(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, attempts=2)
        assert await it.rounds() == 1
        _reported(it, "backing-off", restarts=1, detail="exit code 139")
        await it.node.settled()
        assert it.state.step == "training", "it is started again"
        _reported(it, "backing-off", restarts=2, detail="exit code 139")
        await it.node.settled()
        assert it.state.step == "waiting" and it.state.last is not None
        outcome = it.state.last.models["m"]
        assert (outcome.decision, outcome.reason) == ("failed", "training: exit code 139")
        it.reported = []
        await it.passes(FIRST_PAUSE + 1)
        assert (it.state.round, it.state.step) == (2, "training"), "without a sample that nobody has trained on yet"
        assert sum(shard.samples for shard in it.task.shards) + _held_out(it) == 5

    on_loops(test)


def _held_out(it: Loops) -> int:
    return len(it.queue.settled(JOB)) - sum(shard.samples for shard in it.task.shards)


def test_a_training_and_an_evaluation_that_hang_are_begun_again_and_fail(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, attempts=2, stepDeadlineSeconds=60)
        assert await it.rounds() == 1
        first = it.task
        await it.passes(61)
        second = it.task
        assert (second.step, second.attempt) == ("train", 2) and second.worker != first.worker
        await it.sends(CANDIDATE, _candidate(UID))  # of the attempt that was given up
        assert it.state.step == "training"
        await it.sends(CANDIDATE, _candidate(UID, attempt=2))
        assert it.state.step == "evaluating"
        await it.passes(61)
        assert it.state.last is not None and it.state.last.models["m"].decision == "failed"
        assert it.state.last.models["m"].reason == "evaluating: it has not ended in 60 s"

    on_loops(test)


@pytest.mark.parametrize(("field", "ref"), [
    ("weights", WeightsRef(digest="0" * 64, size=4, inline=b"junk")), ("weights", WeightsRef(digest="1" * 64, size=9)),
    ("memory", WeightsRef(digest="0" * 64, size=4, inline=b"junk")), ("memory", WeightsRef(digest="1" * 64, size=9)),
])  # fmt: skip
def test_a_candidate_whose_file_is_missing_or_damaged_is_trained_again(
    on_loops: Any, field: str, ref: WeightsRef
) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, attempts=2)
        assert await it.rounds() == 1
        await it.sends(CANDIDATE, _candidate(UID, **{field: ref}))
        assert (it.task.step, it.task.attempt) == ("train", 2)
        assert not [*it.journal.documents("loop-inbox/")], "it is in the way of none that comes later"
        await it.sends(CANDIDATE, _candidate(UID, attempt=2))
        assert it.state.step == "evaluating"
        it.expected = it.node.logged[:1]
        assert len(it.expected) == 1 and "digest" in it.expected[0]

    on_loops(test)


async def _judged(it: Loops, decision: str = "passes") -> None:
    task = it.task
    assert task.model is not None
    figures = GateFigures(decision=decision, support=300, champion=0.8, candidate=0.9)  # type: ignore[arg-type]
    await it.sends(VERDICT, VerdictReport(job=JOB, job_uid=UID, round=1, attempt=1, edge=EDGE, model="m",
                                          candidate=task.model.digest, champion=BASE.digest, figures=figures))  # fmt: skip


def _counts(it: Loops, **counted: VersionStats) -> None:
    it.take(INFERENCE_STATS, InferenceStats(service=JOB, service_uid="s", edge=EDGE, worker="serve", incarnation="1",
                                            model=BASE.digest, versions=counted))  # fmt: skip
    it.loops.look()


CANARY = {"canary": {"leastRequests": 5, "watchSeconds": 60}}


@pytest.mark.parametrize("killed", range(6))
def test_an_agent_that_is_killed_goes_on_at_every_step(on_loops: Any, killed: int) -> None:
    job = {"train": {"newSamples": 5}, "deployment": CANARY}
    made = _candidate(UID).weights.digest
    serving = InferTask(worker="serve", job=JOB, job_uid="s", round=1, model=BASE)

    async def test(it: Loops) -> None:
        def served() -> InferTask:
            desired = Desired(edge=EDGE, generation=Generation(n=1), tasks=[serving])
            task = it.loops.applied(desired).tasks[0]
            assert isinstance(task, InferTask) and task.model is not None
            return task

        async def step(number: int, expected: str) -> None:
            await it.node.settled()
            if number == killed:
                await it.restart(**job)
            assert (it.state.step, it.state.round) == (expected, 1)

        it.follow(UID, **job)
        await step(0, "training")
        await it.sends(CANDIDATE, _candidate(UID))
        await step(1, "evaluating")
        await _judged(it)
        await step(2, "canary")
        assert served().model == BASE and served().candidate is not None
        await step(3, "canary")
        good = VersionStats(requests=9, latencies={"4": 9})
        _counts(it, **{BASE.digest: good, made: good})
        await step(4, "watching")
        assert served().model.digest == made and served().candidate is None  # type: ignore[union-attr]
        await it.passes(61)
        await step(5, "waiting")
        assert it.state.last is not None and it.state.last.models["m"].decision == "deployed"
        assert it.state.deployed == {"m": made} and it.state.metric == 0.9
        assert served().model.digest == made  # type: ignore[union-attr]

    on_loops(test)


@pytest.mark.parametrize(("candidate", "reason"), [
    (VersionStats(rejected=1), "did not stand its trial"), (VersionStats(requests=9, errors=9), "9 errors in 9"),
])  # fmt: skip
def test_a_candidate_that_crashes_where_it_serves_is_taken_back(
    on_loops: Any, candidate: VersionStats, reason: str
) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, deployment=CANARY)
        assert await it.rounds() == 1
        await it.sends(CANDIDATE, _candidate(UID))
        await _judged(it)
        assert it.state.step == "canary"
        good = VersionStats(requests=90, latencies={"4": 90})
        _counts(it, **{BASE.digest: good, _candidate(UID).weights.digest: candidate})
        await it.node.settled()
        assert it.state.last is not None and it.state.last.models["m"].decision == "rolled-back"
        assert reason in it.state.last.models["m"].reason and it.state.deployed == {}

    on_loops(test)


def test_what_is_damaged_in_the_journal_is_passed_over(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5})
        assert await it.rounds() == 1
        await it.journal.save(f"loop-inbox/{JOB}/0", b"junk")
        await it.sends(CANDIDATE, _candidate(UID))
        assert it.state.step == "evaluating" and not [*it.journal.documents("loop-inbox/")]
        it.expected = it.node.logged[:1]
        assert len(it.expected) == 1 and f"loop-inbox/{JOB}/0" in it.expected[0]

    on_loops(test)


@pytest.mark.parametrize(("decision", "reason", "support"), [
    ("fails", "gain -0.2", 300), ("undecided", "the evaluation set has no sample", 0),
    ("fails", "metric loss is nan", 300),
])  # fmt: skip
def test_a_candidate_that_does_not_pass_serves_nowhere(
    on_loops: Any, decision: str, reason: str, support: int
) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"any": [{"newSamples": 5}, {"metricDrop": {"below": 0.5}}]})
        assert await it.rounds() == 1
        await it.sends(CANDIDATE, _candidate(UID))
        task = it.task
        assert task.model is not None
        figures = GateFigures(decision=decision, reasons=[reason], support=support)  # type: ignore[arg-type]
        await it.sends(VERDICT, VerdictReport(job=JOB, job_uid=UID, round=1, attempt=1, edge=EDGE, model="m",
                                              candidate=task.model.digest, champion=BASE.digest,
                                              figures=figures))  # fmt: skip
        assert (it.state.step, it.state.round) == ("waiting", 1) and it.state.last is not None
        assert it.state.last.models["m"].decision == ("refused" if decision == "fails" else "undecided")
        assert it.state.deployed == {} and it.state.metric == (0.0 if support else None)

    on_loops(test)


def test_a_clock_that_is_set_back_delays_no_schedule(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.ahead = 86400.0
        it.follow(UID, train={"everySeconds": 600})
        await it.passes(60)
        it.ahead = 0.0
        await it.passes(300)
        assert it.state.round == 0, "it has counted from when it was set back"
        await it.passes(400)
        assert it.state.round == 1
        it.ahead = -86400.0
        it.loops.look()
        await it.node.settled()
        await it.sends(CANDIDATE, _candidate(UID))
        assert it.state.step == "evaluating"

    on_loops(test)
