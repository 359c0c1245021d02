"""What goes wrong in a loop on a node, in virtual time: samples that are gone, damaged candidates, workers that crash
and hang, an agent that is killed, a clock that is set back."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import (
    Desired,
    Generation,
    InferenceStats,
    InferTask,
    VerdictReport,
    VersionStats,
    WorkerReport,
)
from heliograph.bus.contract.resources import GateFigures, WeightsRef
from heliograph.bus.contract.topics import CANDIDATE, INFERENCE_STATS, VERDICT
from heliograph.incremental.loop import FIRST_PAUSE
from tests.edge_agent.loops_on_node import BASE, EDGE, JOB, UID, Loops, candidate_of


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


def test_what_a_worker_waits_for_is_told(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5})
        assert await it.rounds() == 1 and it.state.trouble == ""
        _reported(it, "waiting", detail="data set mine is not on this node")
        await it.node.settled()
        assert it.state.trouble == "data set mine is not on this node"

    on_loops(test)


def test_a_script_that_leaves_its_loop_is_begun_again_and_fails_in_the_end(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, attempts=2)
        assert await it.rounds() == 1
        _reported(it, "finished", detail="the script left its loop in round 1")
        await it.node.settled()
        assert (it.task.step, it.task.attempt) == ("train", 2)
        _reported(it, "finished", detail="the script left its loop in round 1")
        await it.node.settled()
        assert it.state.last is not None
        assert it.state.last.models["m"].reason == "training: the script left its loop in round 1"

    on_loops(test)


def test_a_training_and_an_evaluation_that_hang_are_begun_again_and_fail(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5}, attempts=2, stepDeadlineSeconds=60)
        assert await it.rounds() == 1
        first = it.task
        await it.passes(61)
        second = it.task
        assert (second.step, second.attempt) == ("train", 2) and second.worker != first.worker
        await it.sends(CANDIDATE, candidate_of(UID))  # of the attempt that was given up
        assert it.state.step == "training"
        await it.sends(CANDIDATE, candidate_of(UID, attempt=2))
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
        await it.sends(CANDIDATE, candidate_of(UID, **{field: ref}))
        assert (it.task.step, it.task.attempt) == ("train", 2)
        assert not [*it.journal.documents("loop-inbox/")], "it is in the way of none that comes later"
        await it.sends(CANDIDATE, candidate_of(UID, attempt=2))
        assert it.state.step == "evaluating"
        it.expected = it.node.logged[:1]
        assert len(it.expected) == 1 and "digest" in it.expected[0]

    on_loops(test)


async def _judged(it: Loops, decision: str = "passes") -> None:
    task = it.task
    assert task.model is not None
    figures = GateFigures(decision=decision, support=300, champion=0.8, candidate=0.9)  # type: ignore[arg-type]
    await it.sends(VERDICT, VerdictReport(
        job=JOB, job_uid=UID, round=1, attempt=1, edge=EDGE, model="m", candidate=task.model.digest,
        champion=BASE.digest, figures=figures,
    ))  # fmt: skip


def _counts(it: Loops, **counted: VersionStats) -> None:
    it.take(INFERENCE_STATS, InferenceStats(service=JOB, service_uid="s", edge=EDGE, worker="serve", incarnation="1",
                                            model=BASE.digest, versions=counted))  # fmt: skip
    it.loops.look()


CANARY = {"canary": {"leastRequests": 5, "watchSeconds": 60}}


@pytest.mark.parametrize("killed", range(6))
def test_an_agent_that_is_killed_goes_on_at_every_step(on_loops: Any, killed: int) -> None:
    job = {"train": {"newSamples": 5}, "deployment": CANARY}
    made = candidate_of(UID).weights.digest
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
        await it.sends(CANDIDATE, candidate_of(UID))
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
        await it.sends(CANDIDATE, candidate_of(UID))
        await _judged(it)
        assert it.state.step == "canary"
        good = VersionStats(requests=90, latencies={"4": 90})
        _counts(it, **{BASE.digest: good, candidate_of(UID).weights.digest: candidate})
        await it.node.settled()
        assert it.state.last is not None and it.state.last.models["m"].decision == "rolled-back"
        assert reason in it.state.last.models["m"].reason and it.state.deployed == {}

    on_loops(test)


def test_what_is_damaged_in_the_journal_is_passed_over(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"newSamples": 5})
        assert await it.rounds() == 1
        await it.journal.save(f"loop-inbox/{JOB}/0", b"junk")
        await it.sends(CANDIDATE, candidate_of(UID))
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
        await it.sends(CANDIDATE, candidate_of(UID))
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
        await it.sends(CANDIDATE, candidate_of(UID))
        assert it.state.step == "evaluating"

    on_loops(test)
