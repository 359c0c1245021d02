"""The invariants of learning jobs: a violation of each, planted into the evidence of a sound run, is reported."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from heliograph.bus.contract.resources import LearningRound, LoopState, ShardRef, WeightsRef
from heliograph.bus.contract.resources.learning_progress import ModelOutcome
from heliograph.core.membership import HeldOut
from heliograph.simulations.faults.learning_invariants import LearningEvidence, LoopEvidence, check_learning

HELD_OUT = 30
IDS = [sha256(b"%d" % number).hexdigest() for number in range(20)]
TRAIN, MEASURED = HeldOut(HELD_OUT).split(IDS)
FIRST, SECOND = "1" * 64, "2" * 64
WEIGHTS = WeightsRef(digest="a" * 64, size=1)


def _sound() -> LearningEvidence:
    """Return the evidence of a job that has learned its samples in two rounds; the second was refused."""
    old, new = TRAIN[:4], TRAIN[4:]
    rounds = [
        LearningRound(round=1, samples=len(old), models={"m": ModelOutcome(decision="deployed")}),
        LearningRound(round=2, samples=len(new), models={"m": ModelOutcome(decision="refused")}),
    ]
    kept = [ShardRef(number=3, round=2, samples=len(new), weights=WEIGHTS)]
    loop = LoopEvidence("cloud", "u", True, LoopState(round=2, shards=kept, next_shard=4), {*IDS}, 0,
                        {1: old, 2: MEASURED, 3: new}, rounds)  # fmt: skip
    return LearningEvidence(
        job="learn-1", phase="Running", held_out=HELD_OUT, accepted={"cloud": {*IDS}}, loops=[loop],
        read={"cloud": {1: {*old}, 2: {*MEASURED}, 3: {*new}}}, trained={"cloud": {1: {*old}, 2: {*new}}},
        serving={"edge-1": SECOND}, named={"edge-1": SECOND}, answered={"edge-1": {FIRST, SECOND}},
        evaluated={FIRST, SECOND},
    )  # fmt: skip


def _with_loop(**changes: Any) -> LearningEvidence:
    evidence = _sound()
    return replace(evidence, loops=[replace(evidence.loops[0], **changes)])


def test_a_sound_run_violates_nothing() -> None:
    assert MEASURED and len(TRAIN) > 8
    assert check_learning(_sound()) == []


@pytest.mark.parametrize(
    ("evidence", "invariant"),
    [
        (replace(_sound(), phase="Failed"), "no_learning_job_fails"),
        (_with_loop(labelled={*IDS[1:]}), "no_labelled_sample_is_lost"),
        (_with_loop(labelled={*IDS, "f" * 64}), "no_labelled_sample_is_lost"),
        (_with_loop(state=LoopState(round=2, next_shard=4)), "what_no_deployed_version_learned_waits"),
        (_with_loop(shards={1: TRAIN[:5], 2: MEASURED, 3: TRAIN[4:]}), "no_sample_counts_twice"),
        (_with_loop(rounds=[each.model_copy(update={"samples": 9}) for each in _sound().loops[0].rounds]),
         "no_sample_counts_twice"),
        (replace(_sound(), read={"cloud": {1: {*TRAIN[:3]}}}), "a_shard_is_what_was_noted"),
        (replace(_sound(), evaluated={FIRST}), "no_unevaluated_version_serves"),
        (replace(_sound(), serving={"edge-1": FIRST}), "what_serves_is_what_the_status_names"),
        (replace(_sound(), serving={}), "what_serves_is_what_the_status_names"),
    ],
)  # fmt: skip
def test_a_planted_violation_is_reported(evidence: LearningEvidence, invariant: str) -> None:
    found = [each.invariant for each in check_learning(evidence)]
    assert invariant in found


def test_a_stopped_job_may_leave_samples_that_wait() -> None:
    assert check_learning(_with_loop(goes_on=False, labelled={*IDS, "f" * 64})) == []
