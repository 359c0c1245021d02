"""Handwritten digits with Keras: a training script that learns on in an incremental learning job.

    python examples/incremental_keras.py     # outside a job: trains once, on scikit-learn's digits

In a job the loop goes on: each round has newly labelled samples, with exemplars of earlier ones, and a new class makes
the last layer grow.
"""

from __future__ import annotations

import keras
import numpy as np

from heliograph import IncrementalLearning, dataset  # Heliograph, line 1 of 3


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the samples of the worker's data set; outside a job scikit-learn's digits."""
    if (path := dataset()) is not None:
        with np.load(path) as file:
            return file["x"], file["y"]
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


x, y = load()
x, y, test_x, test_y = x[:-200], y[:-200], x[-200:], y[-200:]
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((64,)),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(10, activation="softmax"),
])  # fmt: skip
model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])

il = IncrementalLearning(model)  # line 2 of 3
for this in il.rounds(x, y):  # line 3 of 3
    model.fit(this.x, this.y, batch_size=32, epochs=20, verbose=0)  # was: model.fit(x, y, ...)
    print(f"round {this.number}: accuracy {(il.predict(test_x) == test_y).mean():.3f}")
