"""Handwritten digits with JAX: an ordinary training script with a few lines for training in a job.

    python examples/jax_digits.py            # outside a job: ten rounds on scikit-learn's digits

In a job the worker's data set is an npz file with ``x`` (samples × 64, float32) and ``y`` (samples, int64).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 5

HIDDEN, BATCH, RATE = 64, 32, 0.1
PASSES = 5
"""Passes over the data in each round: more local training needs fewer rounds and less traffic."""

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


def first_params(key: jax.Array) -> dict[str, Any]:
    """Return the weights of a network of two layers."""
    sizes = [(64, HIDDEN), (HIDDEN, 10)]
    return {
        name: {"kernel": jax.random.normal(each, size) * (2 / size[0]) ** 0.5, "bias": jnp.zeros(size[1])}
        for name, each, size in zip(("hidden", "scores"), jax.random.split(key), sizes, strict=True)
    }


def scores(params: dict[str, Any], x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["scores"]["kernel"] + params["scores"]["bias"]


def cross_entropy(params: dict[str, Any], x: jax.Array, y: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(scores(params, x)), y[:, None], 1).mean()


@jax.jit
def step(params: dict[str, Any], x: jax.Array, y: jax.Array) -> tuple[dict[str, Any], jax.Array]:
    """Return the weights after one step of gradient descent, and the loss before it."""
    loss, gradients = jax.value_and_grad(cross_entropy)(params, x, y)
    return jax.tree.map(lambda weight, gradient: weight - RATE * gradient, params, gradients), loss


train, test = load(dataset())  # Heliograph, line 2 of 5; was: load(None)
model = {"params": first_params(jax.random.key(0))}  # 3 of 5: JAX's arrays cannot change, so a dict holds them
rng = np.random.default_rng(0)


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    x, y = test
    return float((scores(model["params"], x).argmax(1) == y).mean())


for _ in FederatedLearning(model, num_samples=len(train[0]), evaluate=accuracy).rounds(local=10):  # 4 of 5
    params, losses = model["params"], []
    for _pass in range(PASSES):
        order = rng.permutation(len(train[0]))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            params, loss = step(params, train[0][chosen], train[1][chosen])
            losses.append(loss)
    model["params"] = params  # 5 of 5: the trained weights
    print(f"loss {np.mean(losses):.3f}, accuracy {accuracy():.3f}")
