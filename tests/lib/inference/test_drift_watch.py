"""An edge's model that is watched for drift: what its worker tells of it."""

from __future__ import annotations

import numpy as np
import pytest

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.core.errors import Refused
from heliograph.inference.features import mean_of
from heliograph.inference.predictors import predictor_for, reading_of
from heliograph.inference.shallow import Shallow


class _Model:
    """Gives two scores: the sureness that its input asks for."""

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        sure = 0.75 + 0.2 * np.tanh(np.asarray(x).mean(axis=1))
        return np.stack([sure, 1 - sure], axis=1)


def _shallow(*drift: str) -> Shallow:
    spec = InferenceSpec(rule="never", drift=[*drift])
    predictor = predictor_for(_Model(), "edge", reading_of(None, None, None, None))
    return Shallow("s", predictor, spec, lambda: 0.0, lambda: 0.5, now=lambda: 7.0)


def test_inputs_that_turn_are_told_by_scores_and_by_features() -> None:
    shallow, rng = _shallow("page-hinkley", "psi"), np.random.default_rng(0)
    for _ in range(30):
        shallow.judge_all([(x, None, None) for x in rng.normal(size=(50, 4))])
    assert shallow.counts.drift == {}
    for _ in range(30):
        shallow.judge_all([(x, None, None) for x in rng.normal(2, size=(50, 4))])
    assert shallow.counts.drift == dict.fromkeys(
        ["scores/page-hinkley", "scores/psi", "features/page-hinkley", "features/psi"], 7.0
    )


def test_without_detectors_nothing_is_watched() -> None:
    shallow = _shallow()
    for value in (0.0, 9.0):
        shallow.judge_all([(np.full(4, value), None, None)] * 1000)
    assert shallow.counts.drift == {}


def test_a_detector_that_there_is_not_leaves_the_settings_as_they_were() -> None:
    shallow = _shallow("psi")
    before = shallow.spec
    with pytest.raises(Refused, match="guess"):
        shallow.configure(before.model_copy(update={"drift": ["guess"], "rule": "always"}))
    assert shallow.spec is before and not shallow.judge(np.zeros(4), None).hard


@pytest.mark.parametrize(
    ("value", "mean"),
    [(np.array([1, 3], np.uint8), 2.0), (np.array([True, False]), 0.5), (np.array(["a"]), None), ("text", None),
     (np.zeros(0), None), ({"a": 1.0}, None)],
)  # fmt: skip
def test_the_number_that_is_watched_of_an_input(value: object, mean: float | None) -> None:
    assert mean_of(value) == mean
