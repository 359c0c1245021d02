"""Gradients are corrected in unchanged loops of PyTorch and Keras: each loop is compared with one that adds the term
itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for
from heliograph.frameworks.steps import steps_of
from heliograph.local_terms import Correction

Framework = Callable[[str], ModuleType]
SEED, BATCHES = 3, 6


def _batches() -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(SEED)
    for _ in range(BATCHES):
        yield rng.normal(size=(8, 5)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32)


def _correction(weights: dict[str, Any]) -> Correction:
    rng = np.random.default_rng(SEED + 1)
    anchor = {name: array + rng.normal(size=array.shape) for name, array in weights.items()}
    shift = {name: rng.normal(size=array.shape) for name, array in weights.items()}
    return Correction(0.3, anchor, shift)


# PyTorch


def _module(torch: Any) -> Any:
    torch.manual_seed(SEED)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def _train(torch: Any, module: Any, optimizer: Any, before_step: Callable[[], None] = lambda: None) -> None:
    for x, y in _batches():
        def closure(x: Any = x, y: Any = y) -> Any:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))
            loss.backward()
            return loss

        closure()
        before_step()
        optimizer.step()


def _adding(torch: Any, module: Any, correction: Correction) -> Callable[[], None]:
    """Return a function that adds the correction to the gradients of a module, as a script would by hand."""

    def add() -> None:
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                anchor = torch.from_numpy(correction.anchor[name]).to(parameter.dtype)
                shift = torch.from_numpy(correction.shift[name]).to(parameter.dtype)
                parameter.grad += (parameter - anchor) * correction.pull + shift

    return add


OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "SGD": lambda torch, parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda torch, parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "AdamW": lambda torch, parameters: torch.optim.AdamW(parameters, lr=0.05),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_s_gradients_are_corrected(framework: Framework, optimizer: str) -> None:
    torch = framework("torch")
    module, by_hand = _module(torch), _module(torch)
    correction = _correction(dict(adapter_for(module).get()))
    steps = steps_of(adapter_for(module))
    steps.begin(correction, averages=True)
    _train(torch, module, OPTIMIZERS[optimizer](torch, module.parameters()))
    taken = steps.end()
    sums = {name: torch.zeros_like(parameter) for name, parameter in by_hand.named_parameters()}
    add = _adding(torch, by_hand, correction)

    def sum_and_add() -> None:
        for name, parameter in by_hand.named_parameters():
            sums[name] += parameter.grad
        add()

    _train(torch, by_hand, OPTIMIZERS[optimizer](torch, by_hand.parameters()), sum_and_add)
    for (name, one), (_, other) in zip(module.named_parameters(), by_hand.named_parameters(), strict=True):
        torch.testing.assert_close(one, other)
        np.testing.assert_allclose(taken.gradients[name], sums[name].numpy() / BATCHES, rtol=1e-4, atol=1e-6)
    assert (taken.count, taken.momentum) == (BATCHES, 0.9 if optimizer == "momentum" else 0.0)
    assert taken.weights == set(sums)  # no buffers


def test_steps_outside_a_round_and_of_other_models_are_left_alone(framework: Framework) -> None:
    torch = framework("torch")
    module, other, plain = _module(torch), _module(torch), _module(torch)
    steps = steps_of(adapter_for(module))
    steps.begin(_correction(dict(adapter_for(module).get())), averages=False)
    _train(torch, other, torch.optim.SGD(other.parameters(), lr=0.05))
    assert steps.end().count == 0
    _train(torch, module, torch.optim.SGD(module.parameters(), lr=0.05))
    _train(torch, plain, torch.optim.SGD(plain.parameters(), lr=0.05))
    for one, another, third in zip(module.parameters(), other.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, third)
        torch.testing.assert_close(another, third)


def test_two_optimizers_of_one_model_are_one_step(framework: Framework) -> None:
    torch = framework("torch")
    module = _module(torch)
    steps = steps_of(adapter_for(module))
    steps.begin(None, averages=False)
    pair = torch.optim.SGD(module[0].parameters(), lr=0.1), torch.optim.Adam(module[3].parameters())
    for x, y in _batches():
        torch.nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        for each in pair:
            each.step()
            each.zero_grad()
    taken = steps.end()
    assert taken.count == BATCHES
    assert taken.weights == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_scaled_gradients_are_corrected_in_their_own_size(framework: Framework) -> None:
    torch = framework("torch")
    module, by_hand = _module(torch), _module(torch)
    correction = _correction(dict(adapter_for(module).get()))
    steps = steps_of(adapter_for(module))
    steps.begin(correction, averages=False)
    optimizer, scaler = torch.optim.SGD(module.parameters(), lr=0.05), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x, y in _batches():
        optimizer.zero_grad()
        scaler.scale(torch.nn.functional.mse_loss(module(torch.from_numpy(x)), torch.from_numpy(y))).backward()
        scaler.step(optimizer)
        scaler.update()
    assert steps.end().count == BATCHES
    _train(torch, by_hand, torch.optim.SGD(by_hand.parameters(), lr=0.05), _adding(torch, by_hand, correction))
    for one, other in zip(module.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_optimizer_with_a_closure_minimises_the_corrected_loss(framework: Framework) -> None:
    """½‖w‖² with the shift 1 has its minimum at -1."""
    torch = framework("torch")
    weights = {"w": torch.full((3,), 5.0, requires_grad=True)}
    steps = steps_of(adapter_for(weights))
    steps.begin(Correction(shift={"w": np.ones(3)}), averages=False)
    optimizer = torch.optim.LBFGS([weights["w"]], max_iter=20)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (weights["w"] ** 2).sum() / 2
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert steps.end().count >= 3
    torch.testing.assert_close(weights["w"].detach(), torch.full((3,), -1.0), rtol=1e-3, atol=1e-3)


def test_tied_weights_are_corrected_once(framework: Framework) -> None:
    torch = framework("torch")
    first, second = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    module = torch.nn.Sequential(first, second)
    start = first.weight.detach().clone()
    steps = steps_of(adapter_for(module))
    ones = {name: np.ones((3, 3)) for name in ("0.weight", "1.weight")}
    steps.begin(Correction(shift=ones), averages=False)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    (module(torch.zeros(1, 3)).sum() * 0).backward()
    optimizer.step()
    assert steps.end().count == 1
    torch.testing.assert_close(first.weight.detach(), start - 1)


def test_a_sparse_gradient_is_refused(framework: Framework) -> None:
    torch = framework("torch")
    module = torch.nn.Embedding(4, 2, sparse=True)
    steps = steps_of(adapter_for(module))
    steps.begin(Correction(shift={"weight": np.ones((4, 2))}), averages=False)
    module(torch.tensor([1])).sum().backward()
    with pytest.raises(Refused, match=r"field weight: expected a dense gradient.*sparse=True"):
        torch.optim.SGD(module.parameters(), lr=0.1).step()
    steps.end()


def test_a_model_in_bfloat16_is_corrected_in_its_own_type(framework: Framework) -> None:
    torch = framework("torch")
    module = torch.nn.Linear(2, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        module.weight.fill_(1.0)
    steps = steps_of(adapter_for(module))
    steps.begin(Correction(0.5, {"weight": np.zeros((1, 2), np.float32)}), averages=True)
    (module(torch.ones(1, 2, dtype=torch.bfloat16)) * 0).sum().backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert steps.end().gradients["weight"].dtype == np.float32
    torch.testing.assert_close(module.weight.detach(), torch.full((1, 2), 0.5, dtype=torch.bfloat16))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_some_weights_move_first_and_the_others_after_them(framework: Framework, optimizer: str) -> None:
    """Neither momentum nor decay moves a weight that rests."""
    torch = framework("torch")
    module = _module(torch)
    own = {"3.weight", "3.bias"}
    steps = steps_of(adapter_for(module))
    steps.begin(Correction(first=frozenset(own), first_steps=2), averages=False)
    seen = [dict(adapter_for(module).get())]
    made = OPTIMIZERS[optimizer](torch, module.parameters())
    made.register_step_post_hook(lambda *_: seen.append(dict(adapter_for(module).get())))
    _train(torch, module, made)
    assert steps.end().count == BATCHES
    trained = {name for name, _ in module.named_parameters()}
    for number, (before, after) in enumerate(pairwise(seen), 1):
        moved = {name for name in trained if (before[name] != after[name]).any()}
        moving = own if number <= 2 else trained - own - {"0.bias"}  # batch normalisation takes a bias before it away
        assert moving <= moved and moved.isdisjoint(trained - own if number <= 2 else own)


# Keras


def _keras_model(keras: Any, **compiled: Any) -> Any:
    keras.utils.set_random_seed(SEED)
    layers = [keras.Input((5,)), keras.layers.Dense(4, activation="tanh"), keras.layers.BatchNormalization(),
              keras.layers.Dense(2)]  # fmt: skip
    model = keras.Sequential(layers)
    model.compile(**{"optimizer": keras.optimizers.SGD(0.05), "loss": "mse", **compiled})
    return model


def _fit(model: Any) -> None:
    x, y = (np.concatenate(each) for each in zip(*_batches(), strict=True))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


def test_fit_corrects_each_gradient_in_every_round(framework: Framework) -> None:
    keras = framework("keras")
    model, by_hand = _keras_model(keras), _keras_model(keras)
    adapter = adapter_for(model)
    steps = steps_of(adapter)
    for round in range(2):
        start = adapter.get()
        correction = _correction(start) if round == 0 else Correction(0.7, _correction(start).anchor)
        adapter_for(by_hand).set(start)
        steps.begin(correction, averages=True)
        _fit(model)
        taken = steps.end()
        mean = _fit_by_hand(keras, by_hand, correction)
        after, expected = adapter.get(), adapter_for(by_hand).get()
        for name in taken.weights:
            np.testing.assert_allclose(after[name], expected[name], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(taken.gradients[name], mean[name], rtol=1e-3, atol=1e-5)
        assert taken.count == BATCHES
        assert not any("moving" in name for name in taken.weights)
    start = adapter.get()
    steps.begin(None, averages=False)
    _fit(model)
    assert steps.end().count == BATCHES
    adapter_for(by_hand).set(start)
    _fit_by_hand(keras, by_hand, Correction())
    for name, array in adapter_for(by_hand).get().items():
        np.testing.assert_allclose(adapter.get()[name], array, rtol=1e-3, atol=1e-5)


def _fit_by_hand(keras: Any, model: Any, correction: Correction) -> dict[str, Any]:
    """Train as ``fit`` does, with the correction in the loop. Return the mean gradients."""
    tensorflow = __import__("tensorflow")
    names = {id(variable): name for name, variable in adapter_for(model)._variables().items()}  # type: ignore[attr-defined]
    sums: dict[str, Any] = {}
    for x, y in _batches():
        with tensorflow.GradientTape() as tape:
            loss = tensorflow.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, [each.value for each in variables]), strict=True):
            name, found = names[id(variable)], gradient.numpy()
            sums[name] = sums.get(name, 0) + found / BATCHES
            away = variable.numpy() - correction.anchor.get(name, 0)
            added = correction.shift.get(name, 0) + correction.pull * away
            variable.assign(variable.numpy() - 0.05 * (found + added))
    return sums


def test_each_round_has_its_own_correction_on_every_backend(framework: Framework) -> None:
    """The data are 0, and so are the gradients: weights move by the shift alone."""
    keras = framework("keras")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, use_bias=False)])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    adapter = adapter_for(model)
    steps, name = steps_of(adapter), next(iter(adapter.get()))
    for shift in (1.0, -3.0, 0.0):
        before = adapter.get()[name]
        steps.begin(Correction(shift={name: np.full((5, 2), shift)}), averages=False)
        model.fit(np.zeros((8, 5)), np.zeros((8, 2)), batch_size=4, verbose=0)
        assert steps.end().count == 2
        np.testing.assert_allclose(adapter.get()[name], before - 2 * shift, rtol=1e-5)


def test_some_weights_of_keras_move_first_and_the_others_after_them(framework: Framework) -> None:
    keras = framework("keras")
    model = _keras_model(keras, optimizer=keras.optimizers.AdamW(0.05))
    adapter = adapter_for(model)
    steps = steps_of(adapter)
    trained = {name for name in adapter.get() if "moving" not in name}
    own = {name for name in trained if name.startswith("sequential/dense_1")}
    for _ in range(2):  # a round after the other: the optimizer's iterations go on
        steps.begin(Correction(first=frozenset(own), first_steps=2), averages=False)
        seen = [adapter.get()]
        for x, y in _batches():
            model.train_on_batch(x, y)
            seen.append(adapter.get())
        assert steps.end().count == BATCHES
        for number, (before, after) in enumerate(pairwise(seen), 1):
            moved = {name for name in trained if (before[name] != after[name]).any()}
            assert own and moved == (own if number <= 2 else trained - own)


def test_scaled_losses_of_keras_are_corrected_in_their_own_size(framework: Framework) -> None:
    keras = framework("keras")
    plain = _keras_model(keras)
    scaled = _keras_model(keras, optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05)))
    correction = _correction(adapter_for(plain).get())
    for model in (plain, scaled):
        steps = steps_of(adapter_for(model))
        steps.begin(correction, averages=False)
        _fit(model)
        assert steps.end().count == BATCHES
    for name, array in adapter_for(plain).get().items():
        np.testing.assert_allclose(adapter_for(scaled).get()[name], array, rtol=1e-2, atol=1e-4)


def test_a_model_that_is_compiled_within_the_round_took_no_known_step(framework: Framework) -> None:
    keras = framework("keras")
    model = _keras_model(keras)
    steps = steps_of(adapter_for(model))
    steps.begin(_correction(adapter_for(model).get()), averages=False)
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    _fit(model)
    assert steps.end().count == 0


def test_the_momentum_of_keras_is_told(framework: Framework) -> None:
    keras = framework("keras")
    model = _keras_model(keras, optimizer=keras.optimizers.SGD(0.05, momentum=0.8))
    steps = steps_of(adapter_for(model))
    steps.begin(None, averages=False)
    _fit(model)
    taken = steps.end()
    assert (taken.count, taken.momentum) == (BATCHES, pytest.approx(0.8))
