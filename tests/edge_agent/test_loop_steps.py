"""Which version of its own a node serves after each step of its loop."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import EdgeLoop
from heliograph.bus.contract.resources import CandidateState, IncrementalLearningJobSpec, LoopState, WeightsRef
from heliograph.edge_agent import loop_steps
from heliograph.edge_agent.loop_store import StoredLoop

NOW = "2026-01-01T00:00:00.000000Z"
ONE, TWO, BASE = (WeightsRef(digest=letter * 64, size=8) for letter in "123")


def _wanted(**deployment: Any) -> EdgeLoop:
    learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
    spec = IncrementalLearningJobSpec.model_validate({"models": [learned], "deployment": deployment})
    return EdgeLoop(uid="u", queue="q", spec=spec, models={"m": BASE}, asked={"training": 2})


def _stored(weights: WeightsRef, base: str = BASE.digest, **fields: Any) -> StoredLoop:
    candidate = CandidateState(step="passed", base=base, weights=weights)
    return StoredLoop(uid="u", state=LoopState(step="evaluated", round=1, candidates={"m": candidate}), **fields)


CANARY = {"canary": {"share": 0.2}}


@pytest.mark.parametrize(
    ("deployment", "base", "serves"), [({}, BASE.digest, True), (CANARY, BASE.digest, False), (CANARY, "", True)]
)
def test_what_has_passed_serves_at_once_without_a_canary(deployment: Any, base: str, serves: bool) -> None:
    wanted = _wanted(**deployment)
    after = loop_steps.deployed(wanted, _stored(ONE, base), NOW)
    assert after.own == ({"m": ONE} if serves else {})
    trial = loop_steps.on_trial(wanted, after.state, "m")
    assert (trial is not None) == (after.state.step == "canary")
    if trial is not None:
        assert (trial.model, trial.share) == (ONE, 0.2)


def test_a_way_back_leads_to_the_version_before_then_to_the_clouds() -> None:
    first = loop_steps.promoted(_stored(ONE), "m", _stored(ONE).state)
    second = loop_steps.promoted(first, "m", _stored(TWO).state)
    assert (second.own, second.before) == ({"m": TWO}, {"m": ONE})
    assert loop_steps.promoted(second, "m", _stored(TWO).state).before == {"m": ONE}, "a step that is taken twice"
    assert loop_steps.rolled_back(second, "m", _stored(TWO).state).own == {"m": ONE}
    assert loop_steps.rolled_back(first, "m", _stored(ONE).state).own == {}
    assert loop_steps.rolled_back(first, "m", _stored(TWO).state).own == {"m": ONE}, "it was on trial only"


def test_a_step_that_is_asked_for_by_hand_is_taken_once() -> None:
    asked = loop_steps.asked(_wanted(), _stored(ONE))
    assert asked.state.asked == ["training"] and asked.asked == {"training": 2}
    assert loop_steps.asked(_wanted(), asked) is asked
