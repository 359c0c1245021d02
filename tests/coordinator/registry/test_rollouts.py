"""A registered version answers a share of the requests; what workers count decides whether it answers all, or none."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.model_requests import AliasChange, Rollback, RolloutStart
from heliograph.bus.contract.payloads import VersionStats
from heliograph.bus.contract.resources import Metadata, Model, ModelVersion, WeightsRef, resolve
from heliograph.bus.contract.resources.canary import Canary
from heliograph.bus.contract.resources.model import candidate_on
from heliograph.coordinator.registry import aliases, rollouts
from heliograph.core.errors import Refused

BEGAN, LATER, MUCH_LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2026-01-03T00:00:00Z"
BOUNDS = Canary(share=0.5, least_requests=10, watch_seconds=60)
FAST, SLOW = {"40": 100}, {"90": 100}


def _digest(number: int) -> str:
    return str(number) * 64


def _model() -> Model:
    model = Model(metadata=Metadata(name="cats"))
    versions = [ModelVersion(version=number, weights=WeightsRef(digest=_digest(number), size=4, bucket="models"))
                for number in (1, 2)]  # fmt: skip
    model = model.model_copy(update={"status": model.status.model_copy(update={"versions": versions})})
    return aliases.moved(model, "champion", 1, "ann", BEGAN)


def _counted(champion: dict[str, Any], candidate: dict[str, Any]) -> dict[str, VersionStats]:
    return {_digest(1): VersionStats(**champion), _digest(2): VersionStats(**candidate)}


def _begun(counted: dict[str, VersionStats] | None = None, model: Model | None = None) -> Model:
    request = RolloutStart(name="cats", version=2, canary=BOUNDS)
    return rollouts.begin(model or _model(), request, counted or {}, "ann", BEGAN)


def _deployed(model: Model) -> int:
    found = resolve(model)
    assert found is not None
    return found.version


def _told(model: Model) -> tuple[str, str]:
    (found,) = model.status.conditions
    return found.reason, found.message


GOOD = _counted({"requests": 100, "latencies": FAST}, {"requests": 20, "latencies": FAST})


def test_a_version_answers_its_share_until_it_has_enough_answers_then_all() -> None:
    model = _begun()
    beside = candidate_on(model, "edge-1")
    assert beside is not None and (beside[0].version, beside[1]) == (2, 0.5)
    few = _counted({"requests": 100, "latencies": FAST}, {"requests": 9, "latencies": FAST})
    assert rollouts.decide(model, few, LATER) is model
    deployed = rollouts.decide(model, GOOD, LATER)
    assert (_deployed(deployed), candidate_on(deployed, "edge-1")) == (2, None)
    assert _told(deployed) == ("Deployed", "version 2: 20 answers within the bounds")
    assert rollouts.is_watched(deployed), "it may still be rolled back"
    ended = rollouts.decide(deployed, GOOD, MUCH_LATER)
    assert (_deployed(ended), rollouts.is_watched(ended)) == (2, False)


@pytest.mark.parametrize(
    ("candidate", "when", "why"),
    [
        ({"requests": 20, "errors": 3, "latencies": FAST}, LATER, "3 errors in 20 requests"),
        ({"requests": 20, "latencies": SLOW}, LATER, "more than 2 times the champion's"),
        ({"rejected": 1}, LATER, "did not stand its trial in 1 worker"),
        ({"requests": 2, "latencies": FAST}, MUCH_LATER, "only 2 of 10 answers"),
    ],
)
def test_a_version_out_of_its_bounds_is_taken_back_before_and_after_its_deployment(
    candidate: dict[str, Any], when: str, why: str
) -> None:
    counted = _counted({"requests": 100, "latencies": FAST}, candidate)
    found = rollouts.decide(_begun(), counted, when)
    assert (_deployed(found), rollouts.is_watched(found), _told(found)[0]) == (1, False, "RolledBack")
    assert why in _told(found)[1]
    if when == LATER:
        watched = rollouts.decide(_begun(), GOOD, LATER)
        found = rollouts.decide(watched, counted, LATER)
        assert (_deployed(found), rollouts.is_watched(found), _told(found)[0]) == (1, False, "RolledBack")


def test_what_was_counted_of_a_version_earlier_does_not_count_when_it_is_tried_again() -> None:
    failed = _counted({"requests": 100, "latencies": FAST}, {"requests": 20, "errors": 20, "rejected": 1})
    again = _begun(failed, rollouts.decide(_begun(), failed, LATER))
    assert rollouts.decide(again, failed, LATER) is again
    worked = _counted({"requests": 100, "latencies": FAST},
                      {"requests": 40, "errors": 20, "rejected": 1, "latencies": {"40": 20}})  # fmt: skip
    assert _deployed(rollouts.decide(again, worked, LATER)) == 2


def test_another_version_that_is_deployed_meanwhile_ends_the_rollout() -> None:
    model = _begun()
    by_hand = aliases.change(model, AliasChange(name="cats", alias="champion", version=2), "bob", LATER)
    found = rollouts.decide(by_hand, {}, LATER)
    assert (_deployed(found), rollouts.is_watched(found), _told(found)[0]) == (2, False, "Deployed")
    watched = rollouts.decide(model, GOOD, LATER)
    away = aliases.change(watched, AliasChange(name="cats", alias="champion", version=1), "bob", LATER)
    found = rollouts.decide(away, {}, LATER)
    assert (_deployed(found), rollouts.is_watched(found), _told(found)[0]) == (1, False, "RolledBack")


def test_a_rollback_takes_back_what_is_tried_and_what_is_watched() -> None:
    back = Rollback(name="cats")
    for model in (_begun(), rollouts.decide(_begun(), GOOD, LATER)):
        found = rollouts.roll_back(model, back, "bob", LATER)
        assert (_deployed(found), rollouts.is_watched(found)) == (1, False)
        assert _told(found) == ("RolledBack", "version 2: taken back on request")


def test_a_clock_that_is_set_back_prolongs_no_deadline() -> None:
    model = _begun()
    found = rollouts.decide(model, {}, "2025-01-01T00:00:00Z")
    assert found.status.rollout is not None and found.status.rollout.since == "2025-01-01T00:00:00Z"


def test_of_two_versions_one_is_tried_and_the_same_request_again_changes_nothing() -> None:
    model = _begun()
    assert _begun(model=model) is model
    with pytest.raises(Refused, match="version 2 answers 50%") as refused:
        rollouts.begin(model, RolloutStart(name="cats", version=1), {}, "ann", BEGAN)
    assert refused.value.code == "conflict"
    with pytest.raises(Refused, match="another version than the deployed one"):
        rollouts.begin(_model(), RolloutStart(name="cats", version=1), {}, "ann", BEGAN)
