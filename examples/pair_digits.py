"""Handwritten digits by a pair of models, trained from a few images of one's own and similar public ones.

    pip install 'heliograph[demo]'
    python examples/pair_digits.py                 # the pair before (own images alone) and after (as a job trains it)
    python examples/pair_digits.py --write DIR     # write the data sets of pair-training-job.yaml

The own images are 100 of scikit-learn's digits. The "public" data set has 1,100 further ones, and 300 of noise among
them, without labels: those that lie nearest to the own ones are selected, and take their classes. The deep model learns
first, for precision; then the shallow one of a few hundred weights, for recall, also from the deep one's scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from heliograph import PairTraining, dataset

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
RATE, BATCH = 0.3, 32
PASSES = {"cloud": 25, "edge": 60}
OWN, PUBLIC, NOISE = 100, 1100, 300
PLAN = {"selection": {"count": 900}, "distillation": {"temperature": 2.0}, "tuning": {"offload": 0.3}}
"""What the spec of a PairTrainingJob says, for a training outside a job."""
ALONE = {**PLAN, "distillation": {"share": 0.0}}


def main() -> None:
    options = argparse.ArgumentParser(description="A shallow and a deep model from a few images and public ones.")
    options.add_argument("--write", type=Path, metavar="DIR", help="write mine.npz, public.npz and test.npz, and end")
    given = options.parse_args()
    if dataset() is not None:  # in a job
        train_pair(*(read(purpose) for purpose in ("", "public", "evaluation")), PLAN)
        return
    mine, public, test = digits()
    if given.write is not None:
        given.write.mkdir(parents=True, exist_ok=True)
        for name, arrays in (("mine", mine), ("public", public), ("test", test)):
            np.savez(given.write / f"{name}.npz", **arrays)
        return
    before, after = train_pair(mine, {}, test, ALONE), train_pair(mine, public, test, PLAN)
    print(f"{after.selected.selected} of {after.selected.public} public images are selected")
    for name, figures in (("before", before.figures.before), ("after", after.figures.after)):
        print(f"{name:6} joint accuracy {figures.accuracy:.4f}, offload ratio {figures.offload:.4f}")


def train_pair(mine: dict[str, Array], public: dict[str, Array], test: dict[str, Array], plan: Any) -> PairTraining:
    """Train a shallow and a deep model; in a job its spec stands above the plan."""
    pair = PairTraining(shallow(), deep(), predict=scores, outputs="logits", plan=plan)
    for part in pair.parts(mine["x"], mine["y"], public.get("x"), evaluation_x=test["x"], evaluation_y=test["y"]):
        for batch in part.batches(BATCH, PASSES[part.side]):
            loss, error = batch.loss(scores(part.model, batch.x))
            propagate(part.model, batch.x, error)
        part.report(loss=loss)
    return pair


def read(purpose: str) -> dict[str, Array]:
    """Return the arrays of one of the job's data sets."""
    file = dataset(purpose)
    assert file is not None
    with np.load(file) as arrays:
        return dict(arrays)


def digits() -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Return the own images, the public ones, and those to measure with."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    x, y = (images[order] / 16).astype(np.float32), labels[order]
    noise = rng.random((NOISE, 64), np.float32)
    others = rng.permutation(np.concatenate([x[OWN : OWN + PUBLIC], noise]))
    return {"x": x[:OWN], "y": y[:OWN]}, {"x": others}, {"x": x[OWN + PUBLIC :], "y": y[OWN + PUBLIC :]}


def shallow() -> Weights:
    """Return the edge's model: 4 × 4 pixels, each the mean of four, and one small hidden layer."""
    return network(16, 12)


def deep() -> Weights:
    """Return the cloud's model of all pixels."""
    return network(64, 96)


def network(pixels: int, hidden: int) -> Weights:
    """Return weights that are not trained yet."""
    first = np.random.default_rng(0).normal(0, (2 / pixels) ** 0.5, (pixels, hidden)).astype(np.float32)
    zeros = {"first_bias": hidden, "head_bias": 10}
    return {"first": first, "head": np.zeros((hidden, 10), np.float32),
            **{name: np.zeros(size, np.float32) for name, size in zeros.items()}}  # fmt: skip


def scores(model: Weights, images: Array) -> Array:
    """Return the logits (n, 10) of images (n, 64)."""
    return np.asarray(hidden_layer(model, images) @ model["head"] + model["head_bias"])


def propagate(model: Weights, images: Array, error: Array) -> None:
    """Take a step against the gradient ``error`` (n, 10) of the loss with respect to the logits."""
    hidden = hidden_layer(model, images)
    back = (error @ model["head"].T) * (hidden > 0)
    model["head"] -= RATE * hidden.T @ error
    model["head_bias"] -= RATE * error.sum(0)
    model["first"] -= RATE * seen(model, images).T @ back
    model["first_bias"] -= RATE * back.sum(0)


def hidden_layer(model: Weights, images: Array) -> Array:
    return np.asarray(np.maximum(seen(model, images) @ model["first"] + model["first_bias"], 0))


def seen(model: Weights, images: Array) -> Array:
    """Return what a model sees of images: all pixels, or 4 × 4 means."""
    if len(model["first"]) == images.shape[1]:
        return images
    return np.asarray(images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16))


if __name__ == "__main__":
    main()
