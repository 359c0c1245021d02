"""When the steps of a loop begin: by triggers, schedules, metrics and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.contract.resources import (
    GateFigures,
    LoopState,
)
from heliograph.incremental import decisions, loop, loop_shards
from heliograph.incremental.decisions import Action, Begin, Deploy, Evaluate, Facts, Look
from tests.lib.incremental.loops import T0, at, begun, candidate, shard, spec_of, verdict


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
