"""Tasks of models of each framework: they learn, and their file gives the same answers in another process's model."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.frameworks.loading import Loader
from heliograph.lifelong import LifelongModel
from tests.lib.incremental.numpy_network import Network
from tests.lib.lifelong.digits_of_tasks import negative, task, upright

Framework = Callable[[str], ModuleType]
Array = np.ndarray[Any, Any]
A, B = task(range(3), upright, 700), task(range(3), negative, 700)


def of_arrays(framework: Framework) -> LifelongModel:
    def run(weights: dict[str, Array], x: Array) -> Array:
        return np.maximum(x @ weights["w1"] + weights["b1"], 0) @ weights["w2"] + weights["b2"]

    def train(weights: dict[str, Array], x: Array, y: Array) -> None:
        network = Network()
        network.weights = weights
        rng = np.random.default_rng(0)
        for _ in range(150):
            chosen = rng.integers(0, len(x), 32)
            for name, gradient in network.gradients(x[chosen], y[chosen]).items():
                weights[name] -= 0.1 * gradient

    return LifelongModel(lambda: Network().weights, train, predict=run)


def of_sklearn(framework: Framework) -> LifelongModel:
    framework("sklearn")
    from sklearn.neural_network import MLPClassifier

    def train(model: Any, x: Array, y: Array) -> None:
        for _ in range(20):
            model.partial_fit(x, y)

    return LifelongModel(lambda: MLPClassifier((16,), random_state=0, learning_rate_init=0.01), train)


def of_torch(framework: Framework) -> LifelongModel:
    torch = framework("torch")

    def make() -> Any:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))

    def train(model: Any, x: Array, y: Array) -> None:
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()

    def hidden(model: Any, x: Array) -> Array:
        with torch.no_grad():
            found: Array = model[:2](torch.from_numpy(x)).numpy()
        return found

    return LifelongModel(make, train, features=hidden)


def of_keras(framework: Framework) -> LifelongModel:
    keras = framework("keras")

    def make() -> Any:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16, activation="relu"),
                                  keras.layers.Dense(2, activation="softmax")])  # fmt: skip
        model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy())
        return model

    return LifelongModel(make, lambda model, x, y: model.fit(x, y, epochs=15, verbose=0))


@pytest.mark.parametrize("made", [of_arrays, of_sklearn, of_torch, of_keras])
def test_tasks_of_any_framework(made: Callable[[Framework], LifelongModel], framework: Framework) -> None:
    model = made(framework)
    for part in (A.train, B.train):
        model.open(*part)
    for number, each in enumerate((A, B)):
        assert (model(each.test.x).argmax(1) == each.test.y).mean() > 0.85
        assert (model.choose(each.test.x) == 1 - number).mean() < 0.1
    other = made(framework)
    Loader(other).load(TensorFile(dumps(model.get())))
    assert other.classes == 3 and len(other.tasks) == 2
    assert np.allclose(other(A.test.x), model(A.test.x), atol=1e-5)
    other.resize(5)  # a new class takes no answer before it is learned
    assert (other(B.test.x)[:, 3:] == 0).all()
