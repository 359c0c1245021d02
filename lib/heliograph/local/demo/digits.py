"""scikit-learn's handwritten digits (1,797 real images of 8 × 8), split over the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heliograph.core.errors import HeliographError
from heliograph.core.names import CLOUD
from heliograph.core.private_files import make_private
from heliograph.local.split import Split
from heliograph.local.split_file import Parts, split_file

DATASET, TEST_DATASET, MODEL = "digits", "digits-test", "digits"
SPLIT = Split(0.5)
TEST_SHARE = 0.2
SCRIPTS = {name: Path(__file__).with_name(f"{name}_digits.py").resolve() for name in ("numpy", "torch")}
"""The ordinary training script that the edges run, by framework."""


def write_digits(directory: Path, edges: list[str], seed: int) -> Parts:
    """Write a file for each edge and one for the test in the cloud: ``x`` (samples × 64, float32, 0 to 1), ``y``
    (samples, int64). Raise HeliographError if scikit-learn is not installed."""
    try:
        import numpy as np
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise HeliographError(f"{error.name} is missing; install it with pip install 'heliograph[demo]'") from None

    x, y = load_digits(return_X_y=True)
    make_private(directory)
    whole = directory / "digits.npz"
    np.savez(whole, x=(x / 16).astype(np.float32), y=y)
    return split_file(whole, directory, edges, SPLIT, seed=seed, test=TEST_SHARE)


def datasets(parts: Parts) -> dict[str, dict[str, Path]]:
    """Return the data sets that each node's agent offers: node to name to path."""
    assert parts.test is not None
    return {edge: {DATASET: file} for edge, file in parts.files.items()} | {CLOUD: {TEST_DATASET: parts.test}}


def model() -> dict[str, Any]:
    """Return the model's document; without weights, training starts from the first participant's initial ones."""
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": "Model", "metadata": {"name": MODEL}}


def task(framework: str = "numpy", rounds: int = 10) -> dict[str, Any]:
    """Return the task's document; every edge that offers the digits takes part."""
    worker = {"dataset": {"name": DATASET}, "trainScriptBootFile": SCRIPTS[framework].name, "frameworkType": framework}
    return {
        "apiVersion": "edgeai.io/v1alpha1",
        "kind": "FederatedTask",
        "metadata": {"name": "digits"},
        "spec": {
            "aggregationWorker": {"model": {"name": MODEL}, "workerSpec": {"aggregationAlgorithm": "FedAvg"}},
            "trainingWorkers": [{"name": "train", "workerSpec": worker}],
            "evaluationWorker": {"dataset": {"name": TEST_DATASET}},
            "participants": {"all": True},
            "rounds": rounds,
        },
    }
