"""Handwritten digits with Keras' callbacks, and the metrics of ``fit`` reported to the job.

    python examples/keras_callbacks.py       # outside a job: ten rounds on scikit-learn's digits

A callback begins anew with each ``fit``, that is in each round. EarlyStopping stops within a round when the local
training gains nothing more. A schedule over the whole job counts rounds: ``initial_epoch`` goes on from round to round.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

Samples = tuple[np.ndarray, np.ndarray]
EPOCHS = 3
"""Epochs of a round."""


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
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(10),
])  # fmt: skip
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
callbacks = [
    keras.callbacks.EarlyStopping("loss", min_delta=1e-4, patience=1),
    keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 * 0.97**epoch),
]


def evaluate() -> dict[str, float]:
    """Return loss and accuracy on the test samples."""
    return model.evaluate(*test, verbose=0, return_dict=True)


for r in FederatedLearning(model, num_samples=len(train[0]), evaluate=evaluate).rounds(local=10):  # 3 of 3
    begin = (r.number - 1) * EPOCHS
    fitted = model.fit(*train, initial_epoch=begin, epochs=begin + EPOCHS, callbacks=callbacks, verbose=0)
    r.report(**fitted.history)
    print("loss {loss:.3f}, accuracy {accuracy:.3f}".format(**evaluate()))
