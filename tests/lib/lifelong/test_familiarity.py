"""How little a task knows a sample: the sign, the OR of both parts, and odd features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.lifelong.familiarity import Familiarity

Array = np.ndarray[Any, Any]


def known(n: int = 400, d: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Return features of two classes around 0 and around 3."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.normal(0, 1, (n, d)) + 3 * y[:, None], y


def familiarity() -> Familiarity:
    x, y = known()
    return Familiarity.of(x, y).limited(known(seed=1)[0], np.full(400, 0.99))


def test_a_farther_sample_is_less_known() -> None:
    steps = np.arange(0, 50, 0.5)
    found = familiarity().unknown(3 + steps[:, None] * np.ones((1, 6)), np.ones(len(steps)))
    assert (np.diff(found[2:]) > 0).all()  # from beyond the class's own spread on
    assert found[0] < 1 < found[-1]


def test_a_less_sure_answer_is_less_known() -> None:
    confidence = np.linspace(1, 0, 50)
    found = familiarity().unknown(np.zeros((50, 6)), confidence)
    assert (np.diff(found) >= 0).all() and found[0] < 1 < found[-1]


def test_either_part_alone_makes_a_sample_unknown() -> None:
    near, far = np.zeros((1, 6)), np.full((1, 6), 30.0)
    found = familiarity()
    assert found.unknown(near, np.ones(1)) < 1
    assert found.unknown(far, np.ones(1)) > 1  # sure of what it has never seen
    assert found.unknown(near, np.full(1, 0.3)) > 1


def test_most_of_the_own_samples_are_known() -> None:
    found = familiarity().unknown(known(seed=2)[0], np.full(400, 0.99))
    assert 0.9 < (found <= 1).mean() < 0.99


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_any_features_give_finite_numbers(n: int, d: int, classes: int, seed: int, same: bool) -> None:
    rng = np.random.default_rng(seed)
    x = np.ones((n, d)) if same else rng.normal(0, 10.0 ** rng.integers(-6, 6), (n, d))
    found = Familiarity.of(x, rng.integers(0, classes, n))
    found = found.limited(x, rng.random(n))
    numbers = found.unknown(rng.normal(0, 1e6, (5, d)), rng.random(5))
    assert np.isfinite(numbers).all() and (numbers >= 0).all()
    assert found.axes.shape[1] == d and len(found.variances) == len(found.axes) + 1


def test_a_class_without_samples_keeps_its_mean() -> None:
    x, y = known()
    found = Familiarity.of(x, y, {7: np.full(6, -9.0), 0: np.full(6, 50.0)})
    assert len(found.means) == 3 and (found.means[2] == -9).all()
    assert abs(found.means[0]).max() < 1  # that of a class with samples is theirs


def test_features_that_are_no_numbers_or_of_another_width_are_refused() -> None:
    with pytest.raises(Refused, match="field features: expected finite features, got NaN or infinity"):
        familiarity().distance(np.full((1, 6), np.nan))
    with pytest.raises(Refused, match="expected 6 features of each sample"):
        familiarity().distance(np.zeros((1, 5)))
