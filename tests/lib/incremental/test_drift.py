"""Detectors of drift: what they see, what they leave alone, and what is told of it."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from heliograph.bus.contract.payloads import InferenceStats
from heliograph.bus.contract.resources import JointInferenceService
from heliograph.bus.contract.resources.triggers import Drift, Triggers
from heliograph.core.errors import Refused
from heliograph.incremental.drift.detector import make
from heliograph.incremental.drift.page_hinkley import PageHinkley
from heliograph.incremental.drift.psi import PopulationStability, index
from heliograph.incremental.drift.shares import newest_drifts, shares
from heliograph.incremental.drift.watch import DriftWatch
from heliograph.incremental.triggers import detectors

OWN = ["page-hinkley", "psi"]
FROM_RIVER = ["adwin", "kswin"]


def _first_drift(name: str, draw: Callable[[random.Random, int], float], n: int, seed: int = 0) -> int | None:
    detector, rng = make(name), random.Random(seed)
    return next((place for place in range(n) if detector.update(draw(rng, place))), None)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("seed", range(5))
def test_a_stream_that_stays_has_no_drift(name: str, seed: int) -> None:
    assert _first_drift(name, lambda rng, _: rng.betavariate(8, 1), 10_000, seed) is None


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("to", [-2.0, 2.0])
def test_a_shift_up_or_down_is_seen_soon_after_it(name: str, to: float) -> None:
    found = _first_drift(name, lambda rng, place: rng.gauss(0 if place < 2000 else to, 1), 4000)
    assert found is not None and 2000 < found < 2600


def test_a_wider_spread_is_seen_by_its_distribution_alone() -> None:
    assert _first_drift("psi", lambda rng, place: rng.gauss(0, 1 if place < 2000 else 3), 4000) is not None


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("constant", [0.0, 1.0, -1e9])
def test_a_constant_stream_is_no_drift_and_leaving_it_is_one(name: str, constant: float) -> None:
    assert _first_drift(name, lambda _, __: constant, 3000) is None
    left = _first_drift(name, lambda _, place: constant if place < 1000 else constant * 0.5 + 1.5, 3000)
    assert left is not None and left >= 1000


@pytest.mark.parametrize("name", OWN)
def test_numbers_that_are_not_finite_are_left_out(name: str) -> None:
    strange = [math.nan, math.inf, -math.inf]
    with_strange = make(name), make(name)
    rng = random.Random(1)
    for place in range(4000):
        value = rng.gauss(0 if place < 2000 else 2, 1)
        assert not any(with_strange[0].update(each) for each in strange)
        assert with_strange[0].update(value) == with_strange[1].update(value)


def test_one_outlier_is_no_drift() -> None:
    assert _first_drift("page-hinkley", lambda rng, place: 1e12 if place == 500 else rng.gauss(0, 1), 3000) is None


@pytest.mark.parametrize("name", OWN)
def test_what_follows_a_drift_is_the_new_normal(name: str) -> None:
    detector, rng = make(name), random.Random(0)
    seen = [place for place in range(10_000) if detector.update(rng.gauss(0 if place < 2000 else 4, 1))]
    assert 1 <= len(seen) <= 2 and seen[-1] < 3500


def test_bounds_of_detectors() -> None:
    with pytest.raises(ValueError, match="warm_up"):
        PageHinkley(warm_up=1)
    with pytest.raises(ValueError, match="window"):
        PopulationStability(window=5)
    assert index([5, 5], [5, 5]) == 0 < index([10, 0], [0, 10])


def test_an_unknown_detector_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="page-hinkley, psi, adwin"):
        make("guess")


def test_without_river_its_detectors_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river", None)
    monkeypatch.delitem(sys.modules, "heliograph.incremental.drift.river_detectors", raising=False)
    with pytest.raises(Refused, match=r"heliograph\[drift\]"):
        make("adwin")


@pytest.mark.parametrize("name", FROM_RIVER)
def test_river_sees_a_shift(name: str, framework: Any) -> None:
    framework("river")
    found = _first_drift(name, lambda rng, place: rng.gauss(0 if place < 1000 else 3, 1), 2000)
    assert found is not None and 1000 < found < 1500


def test_ddm_takes_low_scores_for_errors(framework: Any) -> None:
    framework("river")
    found = _first_drift("ddm", lambda rng, place: 0.4 if rng.random() < (0.2 if place < 1000 else 0.6) else 0.9, 2000)
    assert found is not None and found > 1000


def test_a_watch_tells_the_time_of_the_last_drift_by_what_it_watches() -> None:
    clock = [0.0]
    watch, rng = DriftWatch(OWN, lambda: clock[0]), random.Random(0)
    for place in range(4000):
        clock[0] = float(place)
        watch.score(rng.betavariate(8, 1), "one")
        watch.features(rng.gauss(0 if place < 2000 else 3, 1))
    assert set(watch.seen) == {"features/page-hinkley", "features/psi"}
    assert all(2000 < time < 2600 for time in watch.seen.values())


def test_another_version_has_scores_of_its_own() -> None:
    watch = DriftWatch(OWN, lambda: 1.0)
    for version, score in (("one", 0.9), ("two", 0.6)):
        for place in range(2000):
            watch.score(score + place % 7 / 1000, version)
    assert not watch.seen


def test_shares_count_edges_with_a_drift_since_the_step_began() -> None:
    drifts = {"a": {"scores/psi": 11.0}, "b": {"scores/psi": 9.0, "features/adwin": 12.0}, "c": {}, "d": {}}
    assert shares(drifts, 10.0) == {("scores", "psi"): 0.25, ("features", "adwin"): 0.25}
    assert shares({}, 0.0) == {}


def test_the_newest_drift_of_several_workers_counts() -> None:
    def told(**drift: float) -> InferenceStats:
        return InferenceStats(service="s", service_uid="u", edge="e", worker="w", incarnation="i", drift=drift)

    assert newest_drifts([told(a=1.0), told(a=3.0, b=2.0), told(a=2.0)]) == {"a": 3.0, "b": 2.0}


def test_the_contract_refuses_what_cannot_be_watched() -> None:
    with pytest.raises(ValidationError, match="ddm counts errors"):
        Drift(of="features", detector="ddm")
    with pytest.raises(ValidationError):
        JointInferenceService.model_validate({"spec": {"drift": ["guess"]}})
    assert detectors(Triggers.model_validate({"any": [{"newSamples": 1}, {"drift": {}}]})) == {"page-hinkley"}
    assert not detectors(Triggers(new_samples=1))
