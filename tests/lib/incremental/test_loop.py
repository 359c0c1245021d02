"""The loop: a round from samples to deployment, refusals, crashes, canaries, and what never happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import Candidate, VerdictReport
from heliograph.bus.contract.resources import (
    GateFigures,
    IncrementalLearningJobSpec,
    LearningRound,
    LoopState,
    ShardRef,
    WeightsRef,
)
from heliograph.core.world import rfc3339
from heliograph.incremental import decisions, loop, loop_shards
from heliograph.incremental.canary import CanaryFacts, VersionCounts
from heliograph.incremental.decisions import Action, Begin, Deploy, End, Evaluate, Facts, Look, Promote, RollBack

T0 = 1_700_000_000.0
BASE, MADE = "b" * 64, "c" * 64


def spec_of(*names: str, **fields: Any) -> IncrementalLearningJobSpec:
    models = [{"model": {"name": name}, "workerSpec": {"trainScriptBootFile": "learn.py"}} for name in names or ["m"]]
    return IncrementalLearningJobSpec.model_validate({"models": models, "train": {"newSamples": 10}, **fields})


def ref(digest: str) -> WeightsRef:
    return WeightsRef(digest=digest, size=8, bucket="models")


def shard(number: int, samples: int = 8, held_out: bool = False) -> ShardRef:
    return ShardRef(number=number, samples=samples, held_out=held_out, weights=ref(f"{number:064x}"))


def at(seconds: float) -> str:
    return rfc3339(T0 + seconds)


def begun(state: LoopState, spec: IncrementalLearningJobSpec, *shards: ShardRef, now: float = 0.0) -> LoopState:
    return loop.begin(state, spec, "10 new samples", {each.model.name: BASE for each in spec.models}, shards, at(now))


def attempt_of(state: LoopState, model: str) -> int:
    return state.candidates[model].attempt if model in state.candidates else 1


def candidate(state: LoopState, model: str = "m", **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "job": "j", "job_uid": "u", "round": state.round, "attempt": attempt_of(state, model), "edge": "cloud",
        "model": model, "base": BASE, "weights": ref(MADE), "memory": ref("d" * 64), "num_samples": 8,
    }  # fmt: skip
    return Candidate(**{**fields, **changes})


def verdict(state: LoopState, model: str = "m", decision: str = "passes", **changes: Any) -> VerdictReport:
    figures = GateFigures.model_validate({"decision": decision, "reasons": [] if decision == "passes" else ["worse"],
                                          "support": 300, "champion": 0.8, "candidate": 0.9})  # fmt: skip
    fields: dict[str, Any] = {
        "job": "j", "job_uid": "u", "round": state.round, "attempt": attempt_of(state, model), "edge": "cloud",
        "model": model, "candidate": MADE, "champion": BASE, "figures": figures,
    }  # fmt: skip
    return VerdictReport(**{**fields, **changes})


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


def test_each_step_may_wait_for_its_own_trigger_or_for_a_hand() -> None:
    spec = spec_of(evaluate={"everySeconds": 100}, deploy={})
    state = loop.ask(LoopState(), "training")
    assert decisions.decide(state, spec, Facts(), T0) == Begin("by hand")
    state = begun(state, spec, shard(1))
    assert state.asked == []
    state = loop.trained(state, candidate(state), at(1))
    facts = Facts(began=T0)
    assert decisions.decide(state, spec, facts, T0 + 99) is None
    assert decisions.next_look(state, spec, facts, T0 + 99) == T0 + 100
    assert decisions.decide(state, spec, facts, T0 + 100) == Evaluate()
    assert decisions.decide(loop.ask(state, "evaluation"), spec, facts, T0 + 2) == Evaluate()
    state = loop.evaluate(state, at(100))
    state = loop.judged(state, verdict(state), at(101))
    assert decisions.decide(state, spec, facts, T0 + 9999) is None
    assert decisions.decide(loop.ask(state, "deployment"), spec, facts, T0 + 102) == Deploy()


CONDITIONS: list[tuple[dict[str, Any], Facts, float, dict[str, float], str]] = [
    ({"newSamples": 3}, Facts(new_samples=3), 10, {}, "3 new samples"),
    ({"everySeconds": 60}, Facts(new_samples=1), 70, {}, "60 s since the last"),
    ({"cron": "* * * * *"}, Facts(new_samples=1), 70, {}, "schedule * * * * *"),
    ({"metricDrop": {"metric": "f1", "by": 0.1}}, Facts(new_samples=1), 10, {"f1": 0.7}, "f1 fell from 0.9 to 0.7"),
    ({"drift": {"of": "features", "detector": "psi"}}, Facts(1, drifts={"edge-1": {"features/psi": T0 + 9}}), 10, {},
     "drift of features on 100% of the edges (psi)"),
    ({"all": [{"newSamples": 1}, {"any": [{"newSamples": 99}, {"everySeconds": 60}]}]}, Facts(new_samples=1), 70, {},
     "1 new samples, 60 s since the last"),
]  # fmt: skip
"""A trigger, and facts, time and metrics on which it holds, with its reason."""


@pytest.mark.parametrize("step", ["train", "evaluate", "deploy"])
@pytest.mark.parametrize(("rule", "facts", "later", "metrics", "reason"), CONDITIONS)
def test_every_trigger_begins_every_step(
    step: str, rule: dict[str, Any], facts: Facts, later: float, metrics: dict[str, float], reason: str
) -> None:
    never = {"newSamples": 10**6}
    spec = spec_of(**{"train": never, "evaluate": never, "deploy": never, step: rule})
    state = begun(LoopState(), spec, shard(1), now=0)
    if step == "train":
        state = LoopState(trained_at=at(0), step_since=at(0))
    else:
        state = loop.trained(state, candidate(state), at(1))
    if step == "deploy":
        state = loop.evaluate(state, at(1))
        state = loop.judged(state, verdict(state), at(1))
    state = state.model_copy(update={"metrics": {"f1": 0.9}, "deployed_metrics": {"f1": 0.9}})
    action: Action = {"train": Begin(reason), "evaluate": Evaluate(), "deploy": Deploy()}[step]
    assert decisions.decide(state, spec, Facts(new_samples=1, began=T0), T0 + 5) is None
    now = state.model_copy(update={"metrics": {**state.metrics, **metrics}})
    assert decisions.decide(now, spec, replace(facts, began=T0), T0 + later) == action
    due = decisions.next_look(now, spec, replace(facts, began=T0), T0 + 5)
    assert later < 60 or (due is not None and due <= T0 + later), "time alone brings it, so that nobody polls"


@pytest.mark.parametrize("step", ["training", "evaluation"])
def test_what_comes_and_goes_between_two_looks_does_not_count(step: Any) -> None:
    rule = {"drift": {"detector": "psi"}, "checkSeconds": 60}
    spec = spec_of(train=rule, evaluate=rule)
    state = LoopState(trained_at=at(0), step_since=at(0))
    if step == "evaluation":
        state = begun(LoopState(), spec, shard(1))
        state = loop.trained(state, candidate(state), at(1))
    quiet, drifting = Facts(1, T0), Facts(1, T0, drifts={"edge-1": {"scores/psi": T0 + 70}})
    assert decisions.decide(state, spec, quiet, T0 + 60) == Look(step)
    looked = loop.looked(state, step, at(60))
    assert decisions.decide(looked, spec, drifting, T0 + 119) is None, "it was looked at a minute ago"
    assert decisions.next_look(looked, spec, drifting, T0 + 61) == T0 + 120
    assert isinstance(decisions.decide(looked, spec, drifting, T0 + 120), (Begin, Evaluate))
    set_back = loop.with_present_clock(looked, at(0))
    assert decisions.decide(set_back, spec, drifting, T0 + 60) is not None, "a clock that is set back delays no look"


def test_a_schedule_of_a_deployment_counts_from_when_a_candidate_waits() -> None:
    """A candidate that has passed at noon waits for the next night, also where the last deployment is weeks ago."""
    spec = spec_of(deploy={"cron": "0 3 * * *"})
    state = LoopState(step="evaluated", step_since=at(0), deployed_at=at(-20 * 86400))
    assert decisions.decide(state, spec, Facts(began=T0 - 30 * 86400), T0) is None
    due = decisions.next_look(state, spec, Facts(began=T0 - 30 * 86400), T0)
    assert due is not None and 0 < due - T0 < 86400
    assert decisions.decide(state, spec, Facts(), due) == Deploy()


def test_a_metric_that_stays_low_trains_no_sample_twice() -> None:
    spec = spec_of(train={"metricDrop": {"below": 0.95}}, evaluation={"metric": "accuracy"})
    state = begun(LoopState(), spec, shard(1), shard(2, 2, held_out=True))
    state = loop.evaluate(loop.trained(state, candidate(state), at(1)), at(1))
    state, _ = loop.end(loop.judged(state, verdict(state, decision="fails"), at(2)), at(2))
    assert state.metrics["accuracy"] == 0.8 and loop_shards.to_learn(state, "m")
    assert decisions.decide(state, spec, Facts(), T0 + 9999) is None, "the same samples make the same candidate"
    assert decisions.decide(state, spec, Facts(new_samples=1), T0 + 9) == Begin("accuracy 0.8 is below 0.95")


def test_metrics_are_those_of_the_first_model_and_of_what_serves() -> None:
    spec = spec_of("small", "large")
    state = begun(LoopState(), spec, shard(1))
    state = loop.trained(loop.trained(state, candidate(state, "small"), at(1)), candidate(state, "large"), at(1))
    state = loop.evaluate(state, at(1))
    of_small = figures(champion=0.8, candidate=0.9, champion_metrics={"f1": 0.7}, metrics={"f1": 0.85})
    of_large = figures(champion=0.5, candidate=0.99, champion_metrics={"f1": 0.1}, metrics={"f1": 0.2})
    state = loop.judged(state, verdict(state, "small", figures=of_small), at(2))
    state = loop.judged(state, verdict(state, "large", figures=of_large), at(2))
    assert state.metrics == {"accuracy": 0.8, "f1": 0.7}
    state, _ = loop.end(loop.deploy(state, spec, at(3)), at(3))
    assert state.metrics == state.deployed_metrics == {"accuracy": 0.9, "f1": 0.85}


def test_an_empty_evaluation_set_measures_nothing() -> None:
    spec = spec_of(train={"metricDrop": {"below": 0.9}})
    state = begun(LoopState(metrics={"accuracy": 0.95}), spec, shard(1))
    state = loop.evaluate(loop.trained(state, candidate(state), at(1)), at(1))
    empty = figures(decision="undecided", reasons=["the evaluation set has no sample"], support=0)
    state, ended = loop.end(loop.judged(state, verdict(state, figures=empty), at(2)), at(2))
    assert ended.models["m"].decision == "undecided" and state.metrics == {"accuracy": 0.95}


def figures(**fields: Any) -> GateFigures:
    return GateFigures(**{"decision": "passes", "support": 300, **fields})


def test_what_is_asked_for_by_hand_is_about_this_round() -> None:
    """Whoever lets a candidate through has seen this one, and not the next."""
    spec = spec_of(evaluate={}, deploy={})
    assert not loop.may_ask(LoopState(), "evaluation") and loop.may_ask(LoopState(), "training")
    state = begun(LoopState(), spec, shard(1))
    assert loop.may_ask(state, "evaluation") and loop.may_ask(state, "deployment")
    state = loop.trained(state, candidate(state), at(1))
    for step in ("training", "deployment"):
        state = loop.ask(state, step)  # type: ignore[arg-type]
    state = loop.evaluate(state, at(1))
    assert not loop.may_ask(state, "evaluation")
    state, _ = loop.end(loop.judged(state, verdict(state, decision="fails"), at(2)), at(2))
    assert state.asked == ["training"]


def test_a_clock_that_is_set_back_delays_no_schedule() -> None:
    spec = spec_of(train={"everySeconds": 60})
    state = LoopState(trained_at=at(5000), step_since=at(5000), looked={"training": at(5000)})
    facts = Facts(new_samples=1)
    assert decisions.decide(state, spec, facts, T0 + 120) is None
    present = loop.with_present_clock(state, at(0))
    assert decisions.decide(present, spec, facts, T0 + 60) == Begin("60 s since the last")
    assert loop.with_present_clock(present, at(1)) is present


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
