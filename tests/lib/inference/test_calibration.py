"""Temperature scaling: the fit finds the true temperature and never makes the labels less likely."""

from __future__ import annotations

import math
import timeit
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.inference.calibration import HIGHEST, LOWEST, calibrate, expected_calibration_error, fit_temperature

Array = np.ndarray[Any, Any]


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = raised / raised.sum(1, keepdims=True)
    return found


def drawn(temperature: float, samples: int = 20_000, seed: int = 0) -> tuple[Array, Array]:
    """Draw the logits of a model overconfident by ``temperature``, and labels from its true probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (samples, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(true)])
    return true * temperature, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_true_temperature_is_found_from_logits_and_from_probabilities(temperature: float) -> None:
    logits, labels = drawn(temperature)
    by_logits, by_probabilities = fit_temperature(logits, labels), fit_temperature(softmax(logits), labels)
    assert by_logits.temperature == pytest.approx(temperature, rel=0.05)
    assert by_probabilities.temperature == pytest.approx(by_logits.temperature, rel=1e-4)
    assert by_logits.error_after < 0.015
    assert by_logits.loss_after <= by_logits.loss_before
    if temperature != 1:
        assert by_logits.error_before > 4 * by_logits.error_after
    assert by_logits.samples == len(labels)


def test_the_fitted_temperature_minimises_the_loss() -> None:
    logits, labels = drawn(2.5, samples=500, seed=3)
    found = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature)[np.arange(len(labels)), labels]).mean())

    assert found.loss_after == pytest.approx(loss(found.temperature))
    assert min(loss(found.temperature * each) for each in (0.99, 0.999, 1.001, 1.01)) >= found.loss_after


@settings(deadline=None)
@given(st.data())
def test_any_samples_have_a_temperature_between_the_bounds(data: st.DataObject) -> None:
    classes, samples = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    number = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, math.nan, math.inf]))
    row = st.lists(number, min_size=classes, max_size=classes)
    scores = np.array(data.draw(st.lists(row, min_size=samples, max_size=samples)))
    scores[0] = np.nan_to_num(scores[0], posinf=1, neginf=0)
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples)))
    found = fit_temperature(scores, labels)
    assert LOWEST <= found.temperature <= HIGHEST
    assert found.loss_after <= found.loss_before * (1 + 1e-9) + 1e-9
    assert 0 <= found.error_after <= 1


def test_all_right_or_all_wrong_samples_give_a_bound() -> None:
    right = fit_temperature(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([0, 1]))
    assert LOWEST <= right.temperature < 0.05  # the labels are certain to the precision of floats
    assert right.loss_after == pytest.approx(0, abs=1e-15)
    assert fit_temperature(np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([1, 0])).temperature == pytest.approx(HIGHEST)


def test_rows_that_are_not_finite_are_skipped() -> None:
    logits, labels = drawn(2.0, samples=300)
    spoilt = np.vstack([logits, [[np.nan, 0, 0, 0, 0], [np.inf, 0, 0, 0, 0]]])
    assert fit_temperature(spoilt, np.append(labels, [0, 1])) == fit_temperature(logits, labels)


def test_the_calibration_error_equals_the_one_computed_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    # one of two samples with confidence 0.9 is right: a gap of 0.4; both with 0.6 are right: a gap of 0.4
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(0.0)
    # two bins, the first up to 0.5: one sample underconfident by 0.5, one overconfident by 0.6
    probabilities, labels = np.array([[0.5, 0.5], [0.4, 0.6]]), np.array([0, 0])
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(0.55)
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0
    assert expected_calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(0.05, 20))
def test_one_sample_is_calibrated_by_the_formula(logits: list[float], temperature: float) -> None:
    raw = np.array([logits])
    p = softmax(raw)[0]
    assert calibrate(p, temperature) == pytest.approx(list(softmax(np.log(p[None]) / temperature)[0]), abs=1e-9)
    if min(logits) < 0:
        assert calibrate(logits, temperature) == pytest.approx([each / temperature for each in logits])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(any), st.floats(1e-300, 1e300))
def test_probabilities_stay_probabilities_at_any_temperature(parts: list[float], temperature: float) -> None:
    p = [part / sum(parts) for part in parts]
    found = list(calibrate(p, temperature) or ())
    assert sum(found) == pytest.approx(1)
    assert all(0 <= each <= 1 for each in found)
    assert found[int(np.argmax(p))] == max(found)


def test_unreadable_scores_and_temperature_1_change_nothing() -> None:
    unreadable: list[Any] = [None, [], [math.nan, 0.5], [[0.5, 0.5]]]
    for each in unreadable:
        assert calibrate(each, 2.0) is each
    scores = np.array([0.25, 0.75], np.float32)
    assert calibrate(scores, 1.0) is scores


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), np.zeros(3, int), "scores: expected numbers, samples × classes, got float64 of shape"),
        (np.array([["a", "b"]]), np.zeros(1, int), "scores: expected numbers, samples × classes, got <U1 of shape"),
        (np.zeros((2, 3)), np.zeros(3, int), r"labels: expected whole numbers of shape \(2,\), got int64 of shape"),
        (np.zeros((2, 3)), np.zeros(2), "labels: expected whole numbers"),
        (np.zeros((2, 3)), np.array([0, 3]), "labels: expected classes from 0 to 2, got 0 to 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), "labels: expected classes from 0 to 2, got -1 to 0"),
        (np.zeros((0, 3)), np.zeros(0, int), "scores: expected at least one sample with finite scores, got 0"),
        (np.full((2, 3), np.nan), np.zeros(2, int), "scores: expected at least one sample with finite scores, got 2"),
    ],
)
def test_the_error_names_the_argument_that_does_not_fit(scores: Array, labels: Array, message: str) -> None:
    for each in (fit_temperature, expected_calibration_error):
        with pytest.raises(Refused, match=message):
            each(scores, labels)


@pytest.mark.quality
def test_calibrating_one_sample_takes_microseconds() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(10)).astype(np.float32)
    assert min(timeit.repeat(lambda: calibrate(scores, 1.7), number=50, repeat=50)) / 50 < 20e-6
