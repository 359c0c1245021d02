"""Small data sets with a known answer, for clusters of real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CODE = Path(__file__).parent.parent / "data" / "code"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)


@pytest.fixture
def regression(tmp_path: Path) -> Callable[..., Path]:
    """``regression(name, samples)``: an npz of x, y = x·ANSWER."""

    def make(name: str, samples: int = 50, seed: int = 0) -> Path:
        x = np.random.default_rng(seed).normal(size=(samples, 3)).astype(np.float32)
        path = tmp_path / f"{name}.npz"
        np.savez(path, x=x, y=x @ ANSWER)
        return path

    return make


@pytest.fixture
def task() -> Callable[..., dict[str, Any]]:
    """``task(name, edges, **spec)``: a FederatedTask of the script in tests/data/code."""

    def make(name: str, edges: list[str], **spec: Any) -> dict[str, Any]:
        worker = {"dataset": {"name": "data"}, "trainScriptBootFile": "train.py"}
        return {
            "apiVersion": "edgeai.io/v1alpha1",
            "kind": "FederatedTask",
            "metadata": {"name": name},
            "spec": {
                "aggregationWorker": {"model": {"name": "line"}},
                "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
                "rounds": 3,
            }
            | spec,
        }

    return make
