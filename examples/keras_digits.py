"""Handwritten digits with Keras: an ordinary training script with three lines for training in a job.

    python examples/keras_digits.py          # outside a job: ten epochs on scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

Samples = tuple[np.ndarray, np.ndarray]


def load(path: Path | None) -> tuple[Samples, Samples]:
    """Return the training samples and the test samples; in a job both are the worker's whole data set."""
    if path is not None:
        with np.load(path) as file:
            data = file["x"], file["y"]
        return data, data
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)

keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((64,)),
    keras.layers.BatchNormalization(),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(10),
])  # fmt: skip
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])


def evaluate() -> dict[str, float]:
    """Return loss and accuracy on the test samples."""
    return model.evaluate(*test, verbose=0, return_dict=True)


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=evaluate).rounds(local=10):  # 3 of 3
    model.fit(*train, batch_size=32, verbose=0)
    print("loss {loss:.3f}, accuracy {accuracy:.3f}".format(**evaluate()))
