"""Models of each framework learn on: heads grow and keep their rows, scores and weights travel, strategies work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph import IncrementalLearning
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.incremental.adapters import learning_adapter_for
from heliograph.incremental.adapters.heads import resized
from heliograph.incremental.growth import load_grown
from heliograph.incremental.learning import EWC, ICaRL, LwF, Replay
from heliograph.incremental.trainer import Trainer
from tests.lib.incremental.numpy_network import Network, digits

Framework = Callable[[str], ModuleType]


def torch_model(torch: Any, classes: int = 2) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes))


def keras_model(keras: Any, kind: str, classes: int = 2) -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(classes, activation="softmax")]
    if kind == "sequential":
        model = keras.Sequential([keras.Input((64,)), *layers])
    elif kind == "functional":
        start = keras.Input((64,))
        model = keras.Model(start, layers[1](layers[0](start)))
    else:
        class Own(keras.Model):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.hidden, self.head = layers

            def call(self, x: Any) -> Any:
                return self.head(self.hidden(x))

        model = Own()
        model(np.zeros((1, 64), np.float32))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy())
    return model


def sklearn_model(kind: str) -> Any:
    from sklearn import linear_model, neural_network, pipeline, preprocessing

    if kind == "mlp":
        return neural_network.MLPClassifier((16,), random_state=0, learning_rate_init=0.01)
    if kind == "average":
        return linear_model.SGDClassifier(average=True, random_state=0)
    last = linear_model.SGDClassifier(loss="log_loss", random_state=0)
    if kind == "pipeline":
        return pipeline.make_pipeline(preprocessing.StandardScaler().fit(digits()[0]), last)
    return linear_model.Perceptron(random_state=0) if kind == "perceptron" else last


MODELS = [("torch", ""), ("keras", "sequential"), ("keras", "functional"), ("keras", "subclass"),
          *(("sklearn", kind) for kind in ("mlp", "sgd", "average", "perceptron", "pipeline"))]  # fmt: skip


def make(framework: Framework, name: str, kind: str) -> Any:
    package = framework(name)
    if name == "torch":
        return torch_model(package)
    return keras_model(package, kind) if name == "keras" else sklearn_model(kind)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2), st.booleans())
def test_a_head_keeps_its_rows(have: int, wanted: int, axis: int, flat: bool) -> None:
    rng = np.random.default_rng(0)
    shape = (have,) if flat else tuple(have if each == axis else 3 for each in range(3))
    axis = 0 if flat else axis
    array = rng.normal(size=shape).astype(np.float32)
    found = resized(array, axis, wanted, rng)
    both = min(have, wanted)
    assert found.shape[axis] == wanted and found.dtype == array.dtype and np.isfinite(found).all()
    assert np.array_equal(np.take(found, range(both), axis), np.take(array, range(both), axis))


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_a_grown_model_scores_its_old_classes_as_before(framework: Framework, name: str, kind: str) -> None:
    model = make(framework, name, kind)
    x, y = digits()
    adapter = learning_adapter_for(model)
    adapter.prepare(3, x)
    adapter.resize(3, np.random.default_rng(0))
    if name == "sklearn":
        estimator = model.steps[-1][1] if kind == "pipeline" else model
        estimator.partial_fit(x[y < 3], y[y < 3])
    before = adapter.scores(x).argmax(1)
    weights = adapter.weights.get()
    adapter.resize(5, np.random.default_rng(0))
    assert adapter.count() == 5 and adapter.scores(x).shape == (len(x), 5)
    assert np.array_equal(adapter.scores(x)[:, :3].argmax(1), before)
    assert adapter.count_in(adapter.weights.get()) == 5 and adapter.count_in(weights) == 3
    # the weights travel, and another process that builds the same small model loads them
    other = make(framework, name, kind)
    trainer = Trainer(learning_adapter_for(other), (), False, 0)
    trainer.load(TensorFile(dumps(adapter.weights.get())))
    assert np.allclose(trainer.adapter.scores(x), adapter.scores(x), atol=1e-5)
    trainer.load(TensorFile(dumps(weights)))
    assert trainer.adapter.scores(x).shape == (len(x), 3)
    assert np.array_equal(trainer.adapter.scores(x).argmax(1), before)


@pytest.mark.parametrize("kind", ["mlp", "sgd"])
def test_two_classes_of_scikit_learn_become_three(framework: Framework, kind: str) -> None:
    framework("sklearn")
    model = sklearn_model(kind)
    x, y = digits()
    model.partial_fit(x[y < 2], y[y < 2], classes=[0, 1])
    before, margin = model.predict(x), model.predict_proba(x)
    adapter = learning_adapter_for(model)
    adapter.resize(3, np.random.default_rng(0))
    assert np.array_equal(adapter.scores(x)[:, :2].argmax(1), before)
    adapter.resize(2, np.random.default_rng(0))
    assert np.allclose(model.predict_proba(x), margin, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_models_learn_new_classes_by_replay(framework: Framework, name: str, kind: str) -> None:
    model = make(framework, name, kind)
    x, y = digits()
    il = IncrementalLearning(model, strategy=Replay(60))
    for classes in ((0, 1), (2, 3)):
        chosen = np.isin(y, classes)
        for this in il.rounds(x[chosen], y[chosen]):
            fit(name, kind, model, this)
    chosen = y < 4
    assert (il.predict(x[chosen]) == y[chosen]).mean() > 0.85


@pytest.mark.parametrize(("name", "kind"), [("torch", ""), ("keras", "functional"), ("sklearn", "mlp")])
def test_models_answer_by_the_nearest_mean(framework: Framework, name: str, kind: str) -> None:
    model = make(framework, name, kind)
    x, y = digits()
    il = IncrementalLearning(model, strategy=ICaRL(40))
    for classes in ((0, 1), (2, 3)):
        chosen = np.isin(y, classes)
        for this in il.rounds(x[chosen], y[chosen]):
            fit(name, kind, model, this)
    adapter, kept = learning_adapter_for(model), il.memory.samples
    assert kept is not None
    features = adapter.features(x)
    means = np.stack([_unit(_unit(adapter.features(kept.x[kept.y == each])).mean(0)) for each in range(4)])
    assert np.array_equal(il.predict(x), (features @ means.T).argmax(1))


def _unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize(("name", "kind"), [("torch", ""), ("keras", "sequential"), ("keras", "functional")])
def test_importances_are_those_of_numpy(framework: Framework, name: str, kind: str) -> None:
    """Equal weights, equal importances: per sample, in every framework."""
    model = make(framework, name, kind)
    adapter, network = learning_adapter_for(model), Network(classes=2)
    x, y = (each[:20] for each in digits())
    y = y % 2
    own = list(adapter.weights.get().values())
    wide = [each.T if name == "torch" else each for each in own if each.ndim == 2]
    flat = [each for each in own if each.ndim == 1]
    network.weights = dict(zip(("w1", "w2", "b1", "b2"), (*wide, *flat), strict=True))
    expected = {key: np.mean([network.gradients(x[i : i + 1], y[i : i + 1])[key] ** 2 for i in range(20)], axis=0)
                for key in network.weights}  # fmt: skip
    found = list(adapter.squared_gradients(x, y).values())
    wide = [each.T if name == "torch" else each for each in found if each.ndim == 2]
    for one, other in zip((*wide, *(each for each in found if each.ndim == 1)), expected.values(), strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), [("torch", ""), ("keras", "sequential"), ("keras", "functional")])
def test_penalties_hold_a_model_back(framework: Framework, name: str, kind: str) -> None:
    x, y = digits()
    moved = {}
    for strategy in ((), (EWC(1e6, samples=30), LwF(100.0))):
        model = make(framework, name, kind)
        il = IncrementalLearning(model, strategy=strategy)
        for number, labels in enumerate((y % 2, (y + 1) % 2)):
            for this in il.rounds(x, labels):
                if number:
                    before = learning_adapter_for(model).scores(x).copy()
                fit(name, kind, model, this, epochs=2)
        moved[len(strategy)] = float(abs(learning_adapter_for(model).scores(x) - before).mean())
    assert moved[2] < moved[0] / 3


def test_a_script_may_hold_its_loss_and_its_optimizer(framework: Framework) -> None:
    torch = framework("torch")
    model = torch_model(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # before the loop, and without state
    il = IncrementalLearning(model, strategy=Replay(60))
    x, y = digits()
    kept = []
    for classes in ((0, 1), (2, 3)):
        chosen = np.isin(y, classes)
        for this in il.rounds(x[chosen], y[chosen]):
            for batch in this.batches(32, steps=60):
                optimizer.zero_grad()
                scores = model(torch.from_numpy(batch.x))
                loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(batch.y))
                kept.append(loss)  # its graph lives on, with the head's old shape
                loss.backward()
                optimizer.step()
    chosen = y < 4
    assert (il.predict(x[chosen]) == y[chosen]).mean() > 0.8


@pytest.mark.parametrize(("name", "kind"), MODELS)
def test_a_served_model_gets_what_its_training_grew(framework: Framework, name: str, kind: str) -> None:
    served, trained = make(framework, name, kind), make(framework, name, kind)
    x, _ = digits()
    adapters = [learning_adapter_for(each) for each in (served, trained)]
    for each in adapters:
        each.prepare(2, x)
    adapters[1].resize(4, np.random.default_rng(1))
    before = adapters[0].weights.get()
    arrays = adapters[1].weights.get()
    broken = {key: each[:1] if each.ndim else each for key, each in arrays.items()}
    with pytest.raises(Refused):
        load_grown(served, broken)
    assert all(np.array_equal(each, before[key]) for key, each in adapters[0].weights.get().items())
    load_grown(served, arrays)
    assert np.allclose(adapters[0].scores(x), adapters[1].scores(x), atol=1e-5)
    load_grown(served, before)
    assert adapters[0].count() == 2


def test_what_cannot_be_is_refused(framework: Framework) -> None:
    framework("sklearn")
    from sklearn.linear_model import LinearRegression
    from sklearn.tree import DecisionTreeClassifier

    for model in (LinearRegression(), DecisionTreeClassifier()):
        with pytest.raises(Refused):
            list(IncrementalLearning(model).rounds(*digits()))
    for strategy in (EWC(), LwF()):
        il = IncrementalLearning(sklearn_model("mlp"), strategy=[Replay(), strategy])
        with pytest.raises(Refused, match="replay takes every model"):
            for _ in range(2):
                for this in il.rounds(*digits()):
                    il.model.partial_fit(this.x, this.y)
    odd = sklearn_model("sgd").partial_fit(digits()[0][:4], [3, 5, 3, 5], classes=[3, 5])
    with pytest.raises(Refused, match="classes_"):
        list(IncrementalLearning(odd).rounds(*digits()))


def test_an_object_of_ones_own_learns_on() -> None:
    class Own:
        """Nearest mean of what it has seen, in pixels."""

        def __init__(self) -> None:
            self.means = np.zeros((2, 64), np.float32)

        def get(self) -> dict[str, Any]:
            return {"means": self.means.copy()}

        def set(self, arrays: Any) -> None:
            self.means = np.array(arrays["means"])

        def resize(self, classes: int) -> None:
            self.means = resized(self.means, 0, max(classes, len(self.means)), np.random.default_rng(0))

        def predict(self, x: Any) -> Any:
            return -((x[:, None] - self.means[None]) ** 2).sum(2)

    model = Own()
    il = IncrementalLearning(model, strategy=[Replay(60), LwF()])
    x, y = digits()
    for classes in ((0, 1), (2, 3)):
        chosen = np.isin(y, classes)
        for this in il.rounds(x[chosen], y[chosen]):
            for each in np.unique(this.y):
                model.means[each] = this.x[this.y == each].mean(0)
    assert model.means.shape == (4, 64) and (il.predict(x[y < 4]) == y[y < 4]).mean() > 0.9
    trainer = Trainer(learning_adapter_for(copy.deepcopy(Own())), (), False, 0)
    trainer.load(TensorFile(dumps(model.get())))
    assert np.array_equal(trainer.adapter.answers(x), il.predict(x))


def fit(name: str, kind: str, model: Any, this: Any, epochs: int = 12) -> None:
    if name == "keras":
        model.fit(this.x, this.y, batch_size=32, epochs=epochs, verbose=0)
    elif name == "sklearn":
        last = model.steps[-1][1] if kind == "pipeline" else model
        x = model[:-1].transform(this.x) if kind == "pipeline" else this.x
        for _ in range(epochs):
            last.partial_fit(x, this.y)
    else:
        import torch

        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for x, y in this.batches(32, steps=epochs * 4):
            optimizer.zero_grad()
            inputs = torch.from_numpy(x)
            scores = model(inputs)
            loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(y)) + this.penalty(inputs, scores)
            loss.backward()
            optimizer.step()
