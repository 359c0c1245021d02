"""The loop: a round from samples to deployment, refusals, crashes, canaries, and what never happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.resources import (
    IncrementalLearningJobSpec,
    LearningRound,
    LoopState,
)
from heliograph.incremental import decisions, loop, loop_shards
from heliograph.incremental.canary import CanaryFacts, VersionCounts
from heliograph.incremental.decisions import Begin, Deploy, End, Evaluate, Facts, Promote, RollBack
from tests.lib.incremental.loops import BASE, MADE, T0, at, begun, candidate, shard, spec_of, verdict


def test_a_round_from_samples_to_deployment() -> None:
    spec, facts = spec_of(), Facts(new_samples=10, began=T0)
    assert decisions.decide(LoopState(), spec, Facts(new_samples=9), T0) is None
    assert decisions.decide(LoopState(), spec, facts, T0) == Begin("10 new samples")
    state = begun(LoopState(), spec, shard(1), shard(2, 2, held_out=True))
    assert (state.step, state.round, state.next_shard) == ("training", 1, 3)
    assert decisions.decide(state, spec, Facts(new_samples=99), T0) is None
    state = loop.trained(state, candidate(state), at(1))
    assert state.step == "trained" and isinstance(decisions.decide(state, spec, Facts(), T0), Evaluate)
    state = loop.evaluate(state, at(1))
    assert [each.number for each in loop_shards.to_measure(state)] == [2]
    state = loop.judged(state, verdict(state), at(2))
    assert state.step == "evaluated" and isinstance(decisions.decide(state, spec, Facts(), T0), Deploy)
    state = loop.deploy(loop.registered(state, "m", 7), spec, at(3))
    assert isinstance(decisions.decide(state, spec, Facts(), T0), End)
    state, ended = loop.end(state, at(4))
    outcome = ended.models["m"]
    assert (outcome.decision, outcome.version, outcome.digest, ended.samples) == ("deployed", 7, MADE, 8)
    assert state.champions == {"m": MADE} and state.memory["m"].digest == "d" * 64
    assert [each.number for each in state.shards] == [2]  # what is learned is forgotten, what is held out stays
    assert state.metrics["accuracy"] == state.deployed_metrics["accuracy"] == 0.9


def test_a_refused_candidate_changes_nothing_and_its_samples_are_learned_with_the_next() -> None:
    spec = spec_of()
    state = begun(LoopState(), spec, shard(1), shard(2, 2, held_out=True))
    state = loop.evaluate(loop.trained(state, candidate(state), at(1)), at(1))
    state, ended = loop.end(loop.judged(state, verdict(state, decision="fails"), at(2)), at(2))
    assert ended.models["m"].decision == "refused" and "worse" in ended.models["m"].reason
    assert state.champions == {} and state.memory == {} and state.failures == 0
    assert loop_shards.waiting_in_shards(state) == 0, "a training has succeeded with them: they are new no more"
    assert [each.number for each in loop_shards.to_learn(state, "m")] == [1]
    assert decisions.decide(state, spec, Facts(), T0 + 9) is None
    state = begun(state, spec, shard(3))
    assert [each.number for each in loop_shards.to_learn(state, "m")] == [1, 3]


def test_an_undecided_gate_lets_nothing_through() -> None:
    spec = spec_of()
    state = loop.trained(begun(LoopState(), spec, shard(1)), candidate(begun(LoopState(), spec)), at(1))
    state = loop.evaluate(state, at(1))
    _, ended = loop.end(loop.judged(state, verdict(state, decision="undecided"), at(2)), at(2))
    assert ended.models["m"].decision == "undecided"


def test_what_crashes_is_begun_again_and_fails_in_the_end() -> None:
    spec = spec_of(attempts=2)
    first = begun(LoopState(), spec, shard(1))
    again = loop.stumbled(first, spec, "m", "exit code 139", at(1))
    assert again.candidates["m"].attempt == 2 and again.step == "training"
    assert loop.trained(again, candidate(first), at(2)) is again, "of the attempt that was given up"
    failed = loop.stumbled(again, spec, "m", "exit code 139", at(3))
    assert decisions.decide(failed, spec, Facts(), T0) == End()
    state, ended = loop.end(failed, at(4))
    assert ended.models["m"].decision == "failed" and "exit code 139" in ended.models["m"].reason
    assert loop_shards.waiting_in_shards(state) == 8, "no training has succeeded with them: they still wait"
    facts = Facts(new_samples=2)
    assert decisions.decide(state, spec, facts, T0 + 4) is None, "it pauses"
    assert decisions.next_look(state, spec, facts, T0 + 4) == T0 + 4 + loop.FIRST_PAUSE
    assert decisions.decide(state, spec, facts, T0 + 5 + loop.FIRST_PAUSE) == Begin("10 new samples")


def test_what_hangs_is_begun_again() -> None:
    spec = spec_of(stepDeadlineSeconds=60)
    state = begun(LoopState(), spec, shard(1))
    assert loop.hanging(state, spec, T0 + 59) == [] and loop.hanging(state, spec, T0 + 60) == ["m"]
    again = loop.stumbled(state, spec, "m", "it hangs", at(60))
    assert loop.hanging(again, spec, T0 + 61) == []
    state = loop.evaluate(loop.trained(again, candidate(again), at(61)), at(61))
    assert loop.hanging(state, spec, T0 + 121) == ["m"]


@pytest.mark.parametrize(
    "changes", [{"round": 2}, {"attempt": 2}, {"base": "e" * 64}, {"base": None}, {"model": "other"}]
)
def test_a_candidate_that_nobody_waits_for_changes_nothing(changes: dict[str, Any]) -> None:
    state = begun(LoopState(), spec_of(), shard(1))
    assert loop.trained(state, candidate(state, **changes), at(1)) is state
    done = loop.trained(state, candidate(state), at(1))
    assert loop.trained(done, candidate(state), at(2)) is done, "it came twice"


@pytest.mark.parametrize("changes", [{"round": 2}, {"attempt": 2}, {"candidate": BASE}, {"model": "other"}])
def test_a_verdict_on_something_else_changes_nothing(changes: dict[str, Any]) -> None:
    state = begun(LoopState(), spec_of(), shard(1))
    state = loop.trained(state, candidate(state), at(1))
    assert loop.judged(state, verdict(state), at(1)) is state, "nobody has asked yet"
    state = loop.evaluate(state, at(1))
    assert loop.judged(state, verdict(state, **changes), at(1)) is state


def test_of_two_models_each_has_its_own_outcome() -> None:
    spec = spec_of("small", "large")
    state = begun(LoopState(), spec, shard(1))
    state = loop.trained(state, candidate(state, "large"), at(1))
    assert state.step == "training"
    state = loop.evaluate(loop.trained(state, candidate(state, "small"), at(1)), at(1))
    state = loop.judged(state, verdict(state, "small", "fails"), at(2))
    state = loop.deploy(loop.judged(state, verdict(state, "large"), at(2)), spec, at(2))
    state, ended = loop.end(state, at(3))
    assert {name: each.decision for name, each in ended.models.items()} == {"small": "refused", "large": "deployed"}
    assert loop_shards.to_learn(state, "large") == []
    assert [each.number for each in loop_shards.to_learn(state, "small")] == [1]


def counts(requests: int, errors: int = 0, p99: float | None = 0.01) -> VersionCounts:
    return VersionCounts(requests, errors, p99)


CANARY = {"canary": {"leastRequests": 100, "deadlineSeconds": 600, "watchSeconds": 60, "leastAgreement": 0.5}}
GOOD = CanaryFacts(counts(900), counts(100), 100, 80)


@pytest.mark.parametrize(
    ("facts", "seconds", "expected"),
    [
        (CanaryFacts(), 1, None),
        (CanaryFacts(counts(900), counts(99)), 1, None),
        (GOOD, 1, Promote("m")),
        (CanaryFacts(counts(900), counts(5, 4)), 1, "4 errors in 5 requests"),
        (CanaryFacts(counts(900), counts(5, 1)), 1, None),
        (CanaryFacts(counts(900), counts(100, 0, 0.021), 100, 80), 1, "p99"),
        (CanaryFacts(counts(900, 450), counts(100, 50), 100, 80), 1, Promote("m")),
        (CanaryFacts(counts(900), counts(100), 100, 49), 1, "agrees"),
        (CanaryFacts(counts(900), counts(0), rejected=1), 1, "did not stand its trial in 1 worker"),
        (CanaryFacts(counts(900), counts(99)), 600, "only 99 of 100 answers"),
    ],
)
def test_a_canary_is_decided_without_labels(facts: CanaryFacts, seconds: float, expected: Any) -> None:
    spec = spec_of(deployment=CANARY)
    state = on_canary(spec)
    found = decisions.decide(state, spec, Facts(canaries={"m": facts}), T0 + seconds)
    if isinstance(expected, str):
        assert isinstance(found, RollBack) and expected in found.reason
    else:
        assert found == expected


def on_canary(spec: IncrementalLearningJobSpec) -> LoopState:
    state = begun(LoopState(), spec, shard(1))
    state = loop.evaluate(loop.trained(state, candidate(state), at(0)), at(0))
    return loop.deploy(loop.registered(loop.judged(state, verdict(state), at(0)), "m", 7), spec, at(0))


def test_a_promoted_version_is_watched_and_may_still_be_rolled_back() -> None:
    spec = spec_of(deployment=CANARY)
    state = loop.promote(on_canary(spec), "m", at(10))
    assert state.step == "watching"
    assert decisions.decide(state, spec, Facts(canaries={"m": GOOD}), T0 + 69) is None
    assert decisions.next_look(state, spec, Facts(), T0 + 11) == T0 + 70
    assert decisions.decide(state, spec, Facts(canaries={"m": GOOD}), T0 + 70) == End()
    worse = CanaryFacts(counts(900), counts(300, 9))
    back = decisions.decide(state, spec, Facts(canaries={"m": worse}), T0 + 69)
    assert isinstance(back, RollBack)
    state = loop.roll_back(state, "m", back.reason, at(69))
    state, ended = loop.end(state, at(70))
    assert ended.models["m"].decision == "rolled-back" and state.champions == {}
    assert [each.number for each in loop_shards.to_learn(state, "m")] == [1]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [({}, None), ({"rounds": 3}, "3 rounds"), ({"rounds": 4}, None), ({"metric": 0.9}, "accuracy 0.92 of 0.9"),
     ({"metric": 0.93}, None), ({"seconds": 10}, "10 s"), ({"seconds": 11}, None)],
)  # fmt: skip
def test_the_job_ends_where_its_condition_holds(stop: dict[str, Any], reason: str | None) -> None:
    state = LoopState(round=3)
    assert decisions.why_ended(state, spec_of(stop=stop), 0.92, at(0), at(10)) == reason
    busy = state.model_copy(update={"step": "canary"})
    assert decisions.why_ended(busy, spec_of(stop=stop), 0.92, at(0), at(10)) is None


def test_an_index_of_a_class_is_never_used_again() -> None:
    assert loop.with_classes(["a", "b"], ["b", "c"]) == ["a", "b", "c"]
    assert loop.with_classes(["a", "b", "c"], ["c", "d", "a"]) == ["a", "b", "c", "d"]


_EVENTS: dict[str, Callable[[LoopState, IncrementalLearningJobSpec, float], LoopState]] = {
    "candidate": lambda s, spec, t: loop.trained(s, candidate(s), at(t)) if "m" in s.candidates else s,
    "passes": lambda s, spec, t: loop.judged(s, verdict(s), at(t)) if "m" in s.candidates else s,
    "fails": lambda s, spec, t: loop.judged(s, verdict(s, decision="fails"), at(t)) if "m" in s.candidates else s,
    "crash": lambda s, spec, t: loop.stumbled(s, spec, "m", "crash", at(t)),
    "train": lambda s, spec, t: loop.ask(s, "training"),
    "back": lambda s, spec, t: loop.with_present_clock(s, at(t - 500)),
}


_EVENT = st.tuples(st.sampled_from(sorted(_EVENTS)), st.integers(0, 12), st.sampled_from([0, 100]))


@settings(max_examples=150, deadline=None)
@given(st.lists(_EVENT, max_size=60))
def test_no_sample_is_lost_and_nothing_unjudged_serves(events: list[tuple[str, int, int]]) -> None:
    """Whatever comes in whatever order: a sample is new, in a shard that is still to be learned, or learned by what
    serves; and what serves has passed its gate."""
    spec = spec_of(attempts=2, deployment=CANARY)
    state, now, number, new = LoopState(), 0.0, 0, 0
    taken: set[int] = set()
    learned: set[int] = set()
    records: list[LearningRound] = []
    for event, samples, requests in events:
        now += 7
        new += samples
        state = _EVENTS[event](state, spec, now)
        facts = Facts(new, T0, canaries={"m": CanaryFacts(counts(900), counts(requests), requests, requests)})
        for _ in range(8):
            match decisions.decide(state, spec, facts, T0 + now):
                case Begin(reason):
                    number += 1
                    taken.add(number)
                    state = loop.begin(state, spec, reason, {"m": BASE}, [shard(number, new)] if new else [], at(now))
                    if not new:
                        taken.discard(number)
                    new, facts = 0, Facts(0, T0, canaries=facts.canaries)
                case Evaluate():
                    state = loop.evaluate(state, at(now))
                case Deploy():
                    state = loop.deploy(loop.registered(state, "m", state.round), spec, at(now))
                case Promote(model):
                    state = loop.promote(state, model, at(now))
                case RollBack(model, why):
                    state = loop.roll_back(state, model, why, at(now))
                case End():
                    before = {each.number for each in loop_shards.to_learn(state, "m")}
                    state, record = loop.end(state, at(now))
                    records.append(record)
                    if record.models["m"].decision == "deployed":
                        learned |= before - {each.number for each in loop_shards.to_learn(state, "m")}
                case None:
                    break
        there = {each.number for each in state.shards}
        assert taken == there | learned and not there & learned
        for each in state.candidates.values():
            if each.step in ("passed", "canary", "deployed"):
                assert each.verdict is not None and each.verdict.decision == "passes"
    assert [each.round for each in records] == list(range(1, len(records) + 1))
