"""Handwritten digits by a pair of models: a shallow one on the edge, and a deep one in the cloud for hard samples.

    pip install 'heliograph[demo]'
    python examples/joint_digits.py                    # train both, tune, measure: a table and a plot
    python examples/joint_digits.py --plot curve.html  # write the plot as a page too
    python examples/joint_digits.py --save set.npz     # write the set for heliograph tune services/NAME --data set.npz

The edge's model sees an image scaled down to 4 × 4 and has a few hundred weights; it learns from the labels and from
the deep model's scores (distillation). Half of the samples train, a quarter tunes the rule, a quarter tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from heliograph import JointInference
from heliograph.inference.pairs import distillation
from heliograph.inference.tuning import from_arrays, page, plot, tune

Array = np.ndarray[Any, Any]
Model = Callable[[Array], Array]
TARGET = 0.97
HIDDEN, PASSES, BATCH, RATE = 16, 200, 32, 0.2


def main() -> None:
    options = argparse.ArgumentParser(description="A shallow model on the edge, a deep one in the cloud.")
    options.add_argument("--target-accuracy", type=float, default=TARGET)
    options.add_argument("--plot", type=Path, metavar="OUT.html")
    options.add_argument("--save", type=Path, metavar="FILE.npz")
    given = options.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(labels))
    train, validation, test = np.split(order, [len(order) // 2, len(order) * 3 // 4])

    cloud = deep(images[train], labels[train])
    edge = shallow(images[train], labels[train], cloud)

    edge_scores, cloud_scores = edge(images[validation]), cloud(images[validation])
    if given.save:
        np.savez(given.save, edge_scores=edge_scores, cloud_scores=cloud_scores, labels=labels[validation])
    tuned = tune(
        from_arrays(edge_scores, cloud_scores, labels[validation]),
        "threshold", {}, target_accuracy=given.target_accuracy,
    )  # fmt: skip
    console = Console()
    console.print(plot(tuned.curve, tuned.choice), highlight=False, markup=False)
    console.print(f"On {tuned.curve.samples} validation samples: {tuned.choice.sentence()}.\n", highlight=False)
    if given.plot:
        given.plot.write_text(page(tuned.curve, tuned.choice, "Digits: accuracy and offload"), encoding="utf-8")

    table = Table("", "accuracy", "offload", "latency p50", "p99", "sent per request")
    undistilled = shallow(images[train], labels[train], cloud, share=0)
    for name, model, rule, parameters in (
        ("edge, undistilled", undistilled, "never", {}),
        ("edge only", edge, "never", {}),
        ("cloud only", edge, "always", {}),
        ("joint", edge, "threshold", tuned.parameters),
    ):
        # both models in one process; without cloud= the node's agent asks the cloud's model
        with JointInference("digits", edge=model, cloud=cloud, rule=rule, temperature=tuned.temperature, deadline=5,
                            **parameters) as pair:  # fmt: skip
            table.add_row(name, *measure(pair, images[test], labels[test]))
    console.print(table)


def measure(pair: JointInference, images: Array, labels: Array) -> list[str]:
    """Return a row of the table. Latency includes the models, the rule and the packing, but no network."""
    answers = [pair.infer(image) for image in images]
    right = np.mean([answer.result == label for answer, label in zip(answers, labels, strict=True)])
    offload = np.mean([answer.by == "cloud" for answer in answers])
    p50, p99 = np.percentile([answer.seconds for answer in answers], [50, 99]) * 1e6
    sent = pair.counts.bytes_offloaded / len(answers)
    return [f"{right:.4f}", f"{offload:.1%}", f"{p50:.0f} µs", f"{p99:.0f} µs", f"{sent:.0f} B"]


def deep(images: Array, labels: Array) -> Model:
    """Return the cloud's model: images, samples × 64, to probabilities, samples × 10."""
    network = MLPClassifier((256, 128), random_state=0, max_iter=200).fit(images, labels)

    def model(images: Array) -> Array:
        found: Array = network.predict_proba(images)
        return found

    return model


def shallow(images: Array, labels: Array, teacher: Model, share: float = 0.9) -> Model:
    """Return the edge's model of 4 × 4 pixels and one small hidden layer.

    ``share`` is the weight of the teacher's scores in the loss; the labels have the rest.
    """
    pixels, teacher_logits = small(images), np.log(np.maximum(teacher(images), 1e-12))
    rng = np.random.default_rng(0)
    first = rng.normal(0, (2 / pixels.shape[1]) ** 0.5, (pixels.shape[1], HIDDEN)).astype(np.float32)
    second = np.zeros((HIDDEN, 10), np.float32)
    for _ in range(PASSES):
        for chosen in np.array_split(rng.permutation(len(labels)), len(labels) // BATCH):
            x = pixels[chosen]
            hidden = np.maximum(x @ first, 0)
            _, error = distillation(
                hidden @ second, teacher_logits[chosen], labels[chosen], temperature=2.0, share=share
            )
            back = (error @ second.T) * (hidden > 0)
            second -= RATE * hidden.T @ error
            first -= RATE * x.T @ back

    def model(images: Array) -> Array:
        logits = np.maximum(small(images) @ first, 0) @ second
        raised = np.exp(logits - logits.max(1, keepdims=True))
        found: Array = raised / raised.sum(1, keepdims=True)
        return found

    return model


def small(images: Array) -> Array:
    """Return 8 × 8 pixels as 4 × 4, each the mean of four, and a constant: samples × 17."""
    means = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)
    return np.column_stack([means, np.ones(len(means), np.float32)])


if __name__ == "__main__":
    main()
