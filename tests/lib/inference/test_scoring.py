"""Scores from the models of each framework: one row of probabilities for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heliograph import BigModel, JointInference
from heliograph.inference.predictors.outputs import are_distributions, softmax

X = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)


def _assert_scores(model: object, expected: Any) -> None:
    for x, row in zip(X, expected, strict=True):
        answer = JointInference("any", edge=model, rule="never").infer(x)
        np.testing.assert_allclose(answer.scores, row, atol=1e-5)
        assert answer.result == int(np.argmax(row))
    result, scores = BigModel("any", model).infer(X[0])
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)
    assert result == int(np.argmax(expected[0]))


def test_a_torch_module(framework: Any) -> None:
    torch = framework("torch")
    model = torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Dropout(0.9))
    with torch.no_grad():
        expected = torch.softmax(model[0](torch.from_numpy(X)), 1).numpy()  # no dropout in inference
    _assert_scores(model, expected)


def test_a_keras_model(framework: Any) -> None:
    keras = framework("keras")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
    _assert_scores(model, np.asarray(model(X)))


def test_an_estimator() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LogisticRegression().fit(X, [0, 1, 2, 1])
    _assert_scores(model, model.predict_proba(X))


def test_logits_become_probabilities_and_probabilities_stay() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(softmax(rows).sum(1), 1)
    assert are_distributions(softmax(rows))
    assert not are_distributions(rows)
    assert not are_distributions(np.array([[-0.5, 1.5]]))
