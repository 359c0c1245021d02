"""The hard-sample rules: decisions, odd inputs, schemas, refusals and speed."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import timeit
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.inference.hard_samples import choose, dial, full_parameters, rules
from heliograph.inference.hard_samples.router import fit

SCORING_RULES = ("energy", "entropy", "ibt", "margin", "router", "threshold", "unknown")
"""Rules that read the scores."""
UNREADABLE: list[Any] = [
    None, [math.nan], [0.9, math.nan], [math.nan, 0.9], [math.inf, 0.1], [-math.inf, 0.1], [math.inf, -math.inf],
    [1e308, 1e308], [10**400], ["0.9"], [[0.9, 0.1]], [None], 0.9, {"a": 0.9}, [1j], np.array(0.9), np.array([[0.9]]),
    np.array([0.9, np.nan], np.float32), np.array(["0.9"]),
]  # fmt: skip
LEAST_HARD = {
    "energy": {"value": -1e300},
    "entropy": {"limit": 1.0},
    "ibt": {"threshold_img": 0.0},
    "margin": {"value": 0.0},
    "router": {"limit": 1.0},
    "threshold": {"value": 0.0},
    "unknown": {"limit": 1.0},
}
"""The parameters with which each rule finds the fewest samples hard."""

floats = st.floats(0, 1)
anything = st.one_of(
    st.none(),
    st.lists(st.floats(), max_size=12),
    st.lists(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=2)), max_size=4),
    st.lists(st.floats(width=32), max_size=12).map(lambda values: np.array(values, np.float32)),
    st.lists(st.lists(floats, max_size=3), max_size=3),
    floats,
)


@st.composite
def probabilities(draw: st.DrawFn, least: int = 1) -> list[float]:
    """Draw shares that sum to 1, zeros among them."""
    parts = draw(st.lists(st.one_of(st.just(0), st.integers(1, 1000)), min_size=least, max_size=20).filter(any))
    return [part / sum(parts) for part in parts]


@settings(deadline=None)
@given(anything)
@pytest.mark.parametrize("name", sorted(rules()))
def test_every_rule_decides_on_every_input(name: str, scores: Any) -> None:
    for parameters in ({}, LEAST_HARD.get(name, {})):
        assert choose(name, parameters)(scores) in (True, False)


@pytest.mark.parametrize("scores", UNREADABLE, ids=repr)
@pytest.mark.parametrize("name", SCORING_RULES)
def test_unreadable_scores_are_hard_at_every_limit(name: str, scores: Any) -> None:
    assert choose(name, {})(scores)
    assert choose(name, LEAST_HARD[name])(scores)


@pytest.mark.parametrize("name", sorted({*SCORING_RULES} - {"ibt"}))
def test_empty_scores_are_hard(name: str) -> None:
    nothing: Any
    for nothing in ([], (), np.array([]), np.array([], np.float32)):
        assert choose(name, LEAST_HARD[name])(nothing)


def test_a_parameter_decides_on_an_image_without_boxes() -> None:
    for share in (0.0, 0.5, 1.0):
        assert not choose("ibt", {"threshold_img": share})([])
        assert choose("ibt", {"threshold_img": share, "empty_is_hard": True})([])
        assert choose("ibt", {"threshold_img": share, "empty_is_hard": True})(np.array([]))


def test_one_class() -> None:
    assert choose("threshold", {"value": 0.5})([0.4])
    assert not choose("threshold", {"value": 0.5})([0.5])
    assert choose("margin", {"value": 0.5})([0.4])  # the missing second score counts as 0
    assert not choose("margin", {"value": 0.5})([0.5])
    assert not choose("entropy", {"limit": 0.0})([0.1])  # a single class leaves nothing to be unsure about
    assert choose("energy", {"value": 2.0, "temperature": 7.0})([1.9])
    assert not choose("energy", {"value": 2.0, "temperature": 7.0})([2.0])
    assert not choose("router", {})([1.0])
    assert choose("router", {})([0.1])
    assert not choose("ibt", {})([0.6])
    assert choose("ibt", {})([0.5])


def test_all_zero_and_negative() -> None:
    for zeros in ([0.0, 0.0], np.zeros(5, np.float32), [0, 0, 0]):
        assert choose("entropy", {"limit": 1.0})(zeros)
        assert choose("router", {"limit": 1.0})(zeros)
        assert choose("threshold", {"value": 1e-9})(zeros)
        assert choose("margin", {"value": 1e-9})(zeros)
        assert not choose("threshold", {"value": 0.0})(zeros)
        assert not choose("margin", {"value": 0.0})(zeros)
    assert choose("entropy", {"limit": 1.0})([1.5, -0.5])
    assert choose("router", {"limit": 1.0})([1.5, -0.5])


@settings(deadline=None)
@given(probabilities(), floats)
def test_threshold_and_margin_follow_their_definitions(scores: list[float], value: float) -> None:
    first, second = sorted([*scores, 0.0], reverse=True)[:2]
    assert choose("threshold", {"value": value})(scores) == (first < value)
    assert choose("margin", {"value": value})(np.array(scores)) == (first - second < value)


@settings(deadline=None)
@given(probabilities(least=2), st.sampled_from([1e-310, 1e-5, 1.0, 1e5, 1e308]))
def test_entropy_equals_the_formula_at_any_scale(scores: list[float], scale: float) -> None:
    wanted = -sum(p * math.log(p) for p in scores if p) / math.log(len(scores))
    measured = dial("entropy").measure([p * scale for p in scores])
    assert measured == pytest.approx(wanted, abs=1e-9 if scale > 1e-300 else 1e-3)
    assert 0 <= measured <= 1


@settings(deadline=None)
@given(st.integers(2, 200))
def test_equal_probabilities_are_not_above_the_greatest_entropy(classes: int) -> None:
    assert not choose("entropy", {"limit": 1.0})([1 / classes] * classes)
    for equal in ([1 / classes] * classes, [5e-324] * classes, [8e305] * classes):
        assert dial("entropy").measure(equal) == pytest.approx(1)


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.floats(0.01, 100))
def test_energy_equals_the_papers_formula(logits: list[float], temperature: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        wanted = temperature * np.logaddexp.reduce(np.array(logits) / temperature)
    assert dial("energy").measure(logits, temperature=temperature) == pytest.approx(float(wanted), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(st.lists(floats, min_size=1, max_size=30), floats, floats)
def test_ibt_equals_sednas_rule(boxes: list[float], box: float, image: float) -> None:
    unsure = Fraction(sum(each <= box for each in boxes), len(boxes))
    rule = choose("ibt", {"threshold_box": box, "threshold_img": image})
    if abs(unsure - (1 - Fraction(image))) > 1e-9:  # the two may round differently at the limit
        assert rule(boxes) == (unsure >= 1 - Fraction(image))


def test_random_draws_a_share_from_the_given_source() -> None:
    rule = choose("random", {"share": 0.3}, draw=random.Random(7).random)
    drawn = [rule([1.0]) for _ in range(10_000)]
    assert sum(drawn) == pytest.approx(3000, abs=150)
    again = choose("random", {"share": 0.3}, draw=random.Random(7).random)
    assert [again(None) for _ in range(10_000)] == drawn
    for share in (0, 1):
        assert {choose("random", {"share": share})([0.5]) for _ in range(1000)} == {bool(share)}


def test_always_and_never() -> None:
    for scores in (*UNREADABLE, [], [1.0, 0.0], [0.5, 0.5]):
        assert choose("always", {})(scores)
        assert not choose("never", {})(scores)


@settings(deadline=None)
@given(probabilities())
def test_lists_arrays_and_small_floats_give_the_same_decision(scores: list[float]) -> None:
    small = np.array(scores, np.float32)
    for name in SCORING_RULES:
        rule = choose(name, {})
        assert rule(small) == rule(small.tolist()) == rule(list(small)) == rule(tuple(small.tolist()))


@settings(deadline=None)
@given(probabilities())
def test_a_rule_does_not_change_the_scores(scores: list[float]) -> None:
    before = list(scores)
    for name in SCORING_RULES:
        choose(name, {})(scores)
    assert scores == before


def test_an_unfitted_router_equals_a_threshold() -> None:
    for highest in (0.7, 0.79, 0.81, 0.99):
        assert choose("router", {})([highest, 1 - highest]) == (highest < 0.8)


def test_the_router_learns_where_the_cloud_is_needed() -> None:
    rng = np.random.default_rng(1)
    scores = rng.dirichlet([0.3] * 5, size=2000)
    edge = rng.random(2000) < scores.max(1)
    weights = fit(scores, edge, np.ones(2000, bool))
    rule = choose("router", {**weights, "limit": 0.5})
    right = np.mean([rule(each) != sure for each, sure in zip(scores, edge, strict=True)])
    oracle = np.maximum(scores.max(1), 1 - scores.max(1)).mean()  # the best accuracy that the noise allows
    assert right > oracle - 0.03
    assert weights == fit(list(scores), list(edge), [True] * 2000)
    assert choose("router", {**weights, "limit": 1.0})([math.nan])


def test_a_router_does_not_learn_samples_that_the_cloud_gets_wrong_too() -> None:
    scores = np.random.default_rng(2).dirichlet([0.3] * 5, size=500)
    rule = choose("router", fit(scores, scores.max(1) > 0.8, np.zeros(500, bool)))
    assert not any(rule(each) for each in scores)


@settings(deadline=None)
@given(st.lists(st.tuples(probabilities(least=2), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_any_samples_give_a_router_finite_weights(samples: list[tuple[list[float], bool, bool]]) -> None:
    weights = fit(*zip(*samples, strict=True))
    assert all(map(math.isfinite, weights.values()))
    assert choose("router", weights)([0.5, 0.5]) in (True, False)


def test_a_router_needs_samples_with_features() -> None:
    with pytest.raises(Refused, match="edge_scores: expected probabilities of at least one sample, got 1 without"):
        fit([[math.nan]], [True], [True])
    with pytest.raises(Refused, match=r"cloud_correct: expected 1 values.* cloud_correct with 2"):
        fit([[1.0]], [True], [True, False])


def test_each_rule_has_a_schema_from_its_signature() -> None:
    found = rules()
    assert sorted(found) == ["always", "energy", "entropy", "ibt", "margin", "never", "random", "router", "threshold",
                             "unknown"]  # fmt: skip
    assert json.loads(json.dumps(found)) == found
    value = found["threshold"]["properties"]["value"]
    assert {key: value[key] for key in ("type", "default", "minimum", "maximum")} == {
        "type": "number", "default": 0.9, "minimum": 0, "maximum": 1,
    }  # fmt: skip
    assert list(found["random"]["properties"]) == ["share"]  # the source of randomness is no parameter
    assert found["ibt"]["properties"]["empty_is_hard"]["type"] == "boolean"
    assert found["energy"]["properties"]["temperature"]["exclusiveMinimum"] == 0
    for schema in found.values():
        assert schema["description"]
        assert all("default" in each and "description" in each for each in schema["properties"].values())


def test_parameters_are_completed_with_their_defaults() -> None:
    assert full_parameters("ibt", {"threshold_box": 0.7, "threshold_img": None}) == {
        "threshold_box": 0.7, "threshold_img": 0.5, "empty_is_hard": False,
    }  # fmt: skip
    assert full_parameters("threshold", {"value": 1}) == {"value": 1.0}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("treshold", {}, "field rule: expected one of always, energy, .*threshold, unknown, got treshold"),
        ("threshold", {"valeu": 0.5}, "field parameters.valeu: expected one of value, got valeu"),
        ("always", {"value": 1}, "field parameters.value: expected nothing: always has no parameters, got value"),
        ("random", {"draw": 1}, "field parameters.draw: expected one of share, got draw"),
        ("threshold", {"value": "0.5"}, "field parameters.value: expected a valid number, got 0.5"),
        ("threshold", {"value": True}, "field parameters.value: expected a valid number, got True"),
        ("threshold", {"value": 1.01}, "field parameters.value: expected less than or equal to 1, got 1.01"),
        ("margin", {"value": -0.01}, "field parameters.value: expected greater than or equal to 0, got -0.01"),
        ("energy", {"temperature": 0}, "field parameters.temperature: expected greater than 0, got 0"),
        ("energy", {"value": math.nan}, "field parameters.value: expected a finite number, got nan"),
        ("ibt", {"empty_is_hard": 1}, "field parameters.empty_is_hard: expected a valid boolean, got 1"),
    ],
)
def test_the_error_names_the_bad_rule_or_parameter(name: str, parameters: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        choose(name, parameters)


@pytest.mark.parametrize("name", ["always", "never", "random"])
def test_rules_that_ignore_the_scores_cannot_be_tuned(name: str) -> None:
    with pytest.raises(Refused, match="field rule: expected a rule that reads the scores: energy, .*got " + name):
        dial(name)


@settings(deadline=None)
@given(probabilities(), floats)
@pytest.mark.parametrize("name", SCORING_RULES)
def test_a_rule_is_its_measure_against_its_parameter(name: str, scores: list[float], value: float) -> None:
    tuned = dial(name)
    compared: dict[str, Callable[[float, float], bool]] = {
        "<": float.__lt__, "<=": float.__le__, ">": float.__gt__,
    }  # fmt: skip
    hard = compared[tuned.hard](float(tuned.measure(scores)), value)
    assert choose(name, {tuned.parameter: value})(scores) == hard


@pytest.mark.quality
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("name", sorted(rules()))
def test_a_rule_takes_microseconds(name: str, classes: int) -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(classes)).astype(np.float32)
    rule = choose(name, {})
    best = min(timeit.repeat(lambda: rule(scores), number=50, repeat=50)) / 50
    assert best < (20e-6 if classes == 10 else 40e-6)  # more than twice the measured time


def test_the_rules_import_no_numpy() -> None:
    code = (
        "import sys, heliograph.inference.hard_samples as h; "
        "h.choose('router', {})([0.9, 0.1]); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
