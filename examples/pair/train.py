"""Handwritten digits by a pair of models, trained from a few images of one's own and similar public ones.

    pip install 'heliograph[demo]'
    python examples/pair/train.py                 # the pair before (own images alone) and after (as a job trains it)
    python examples/pair/train.py --write DIR     # write the data sets of job.yaml

The own images are 100 of scikit-learn's digits. The "public" data set has 1,100 further ones, and 300 of noise among
them, without labels: those that lie nearest to the own ones are selected, and take their classes. The deep model learns
first, for precision; then the shallow one of a few hundred weights, for recall, also from the deep one's scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from network import Array, deep, propagate, scores, shallow

from heliograph import PairTraining, dataset

BATCH = 32
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


if __name__ == "__main__":
    main()
