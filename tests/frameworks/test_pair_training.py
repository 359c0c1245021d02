"""A pair of a framework's models: trained with the loss of a batch, or by the model's own fit."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from heliograph import PairTraining

PLAN = {"evaluation": {"heldOut": 40}, "tuning": {"offload": 0.5}}


def _blobs() -> tuple[Any, Any]:
    y = np.arange(120) % 3
    centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
    return (centres[y] + np.random.default_rng(0).normal(0, 1, (120, 2))).astype(np.float32), y


def test_modules_of_pytorch(framework: Callable[[str], ModuleType]) -> None:
    torch: Any = framework("torch")
    deep = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    pair, sides = PairTraining(torch.nn.Linear(2, 3), deep, plan=PLAN), []
    for part in pair.parts(*_blobs()):
        sides.append(part.side)
        optimizer = torch.optim.SGD(part.model.parameters(), lr=0.1)
        for batch in part.batches(16, 20):
            logits = part.model(torch.from_numpy(batch.x))
            _, gradient = batch.loss(logits)
            optimizer.zero_grad()
            logits.backward(torch.from_numpy(gradient))
            optimizer.step()
    assert sides == ["cloud", "edge"] and pair.figures is not None
    assert len(pair.figures.classes) == 3 and pair.figures.temperature > 0


def test_models_of_keras_fit_targets(framework: Callable[[str], ModuleType]) -> None:
    keras: Any = framework("keras")

    def made(hidden: int) -> Any:
        layers = [keras.layers.Dense(hidden, "relu"), keras.layers.Dense(3, "softmax")]
        model = keras.Sequential([keras.Input((2,)), *layers])
        model.compile("adam", "categorical_crossentropy")
        return model

    pair = PairTraining(made(4), made(16), plan=PLAN)
    for part in pair.parts(*_blobs()):
        part.model.fit(part.x, part.targets, sample_weight=part.sample_weights, epochs=3, verbose=0)
    assert pair.figures is not None and len(pair.figures.classes) == 3
