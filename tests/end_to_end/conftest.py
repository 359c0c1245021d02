"""Small data sets with a known answer, for clusters of real processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.edge_agent.confinement.site_policy import SitePolicy

CODE = Path(__file__).parent.parent / "data" / "code"
ANSWER = np.array([1.0, -2.0, 0.5], np.float32)


@pytest.fixture
def regression(tmp_path: Path) -> Callable[..., Path]:
    """Return ``regression(name, samples)``, which writes an npz of x and y = x·ANSWER."""

    def make(name: str, samples: int = 50, seed: int = 0) -> Path:
        x = np.random.default_rng(seed).normal(size=(samples, 3)).astype(np.float32)
        path = tmp_path / f"{name}.npz"
        np.savez(path, x=x, y=x @ ANSWER)
        return path

    return make


@pytest.fixture
def task() -> Callable[..., dict[str, Any]]:
    """Return ``task(name, edges, **spec)``, which makes a FederatedTask of the script in tests/data/code."""

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


@dataclass(frozen=True)
class Faults:
    """A control that kills processes at exact instants; see tests/data/faults."""

    directory: Path

    def kill(self, process: str, point: str, passing: int = 1) -> None:
        """Kill the next process of that kind when it passes the point for the ``passing``-th time."""
        (self.directory / f"{process}.{point}").write_text(str(passing))

    def struck(self) -> bool:
        """Return whether every planned kill has happened."""
        return not list(self.directory.glob("*.*"))

    @property
    def site_policy(self) -> SitePolicy:
        """Let workers take note of their own kills."""
        return SitePolicy(write=(self.directory,))

    def hurry(self) -> None:
        """Make leases expire four times as fast, which shortens the test."""
        (self.directory / "hasty").touch()


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Return the faults of all processes started later."""
    (tmp_path / "faults").mkdir()
    monkeypatch.setenv("FAULTS", str(tmp_path / "faults"))
    path = [str(CODE.parent / "faults"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return Faults(tmp_path / "faults")


@dataclass(frozen=True)
class Gates:
    """A script that waits at its gates: ``edge-1-initial``, ``edge-1-2``, ``cloud-evaluate``, …"""

    code: Path

    def open(self, *names: str) -> None:
        for name in names:
            (self.code / name).touch()


@pytest.fixture
def gates(tmp_path: Path) -> Callable[..., Gates]:
    """Return ``gates(size)``, which writes a script whose updates add one to ``size`` numbers."""

    def make(size: int = 3) -> Gates:
        code = tmp_path / "gated"
        code.mkdir()
        (code / "gated.py").write_text((CODE / "gated.py").read_text().replace("SIZE", str(size)))
        return Gates(code)

    return make
