"""The places that a command names: where a job's rounds go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heliograph.tracking.mlflow_run import MlflowRun
from heliograph.tracking.run_writer import RunWriter
from heliograph.tracking.tensorboard_run import TensorBoardRun


@dataclass(frozen=True)
class Targets:
    """The places.

    Attributes:
        tensorboard: directory of TensorBoard's runs.
        mlflow: MLflow's server or store; empty for none.
    """

    tensorboard: Path | None = None
    mlflow: str = ""

    def __bool__(self) -> bool:
        return self.tensorboard is not None or bool(self.mlflow)

    def writers(self) -> list[RunWriter]:
        """Return a writer for each place. Raise HeliographError where its package is missing, or it cannot be reached
        or written."""
        found: list[RunWriter] = []
        if self.tensorboard is not None:
            found.append(TensorBoardRun(self.tensorboard))
        if self.mlflow:
            found.append(MlflowRun(self.mlflow))
        for each in found:
            each.require()
        return found
