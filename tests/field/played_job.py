"""A job that a test plays: users' scripts run in this process; their updates are checked and combined as in a job."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import session
from heliograph.bus.contract.weights_file import LEFT_OUT, TensorFile, dumps
from heliograph.session import Trained, Work
from heliograph.workers.aggregation.checks import check_weights
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import INITIAL, Input, RoundStart
from heliograph.workers.algorithms import choose
from heliograph.workers.unchanged import without_unchanged

Arrays = dict[str, np.ndarray[Any, Any]]


class PlayedEdge:
    """The session of a script: gives it its works, and keeps what it sends."""

    edge = "edge-1"
    job = "played"
    parameters: Mapping[str, Any] = {}

    def __init__(self, dataset: Path, *works: Work) -> None:
        self.dataset = dataset
        with np.load(dataset) as file:
            self.dataset_samples = len(file["y"])
        self.updates: list[Arrays] = []
        self.evaluations: list[dict[str, float]] = []
        self._works = list(works)

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        """Take note of the loop: nothing to do here."""

    def next_work(self) -> Work | None:
        return self._works.pop(0) if self._works else None

    def send_update(self, trained: Trained) -> None:
        self.updates.append(dict(trained.arrays))

    def send_evaluation(self, metrics: dict[str, float], num_samples: int) -> None:
        self.evaluations.append(metrics)


class PlayedJob:
    """Runs a script for each edge and round.

    Attributes:
        model: the global model as the bytes of a file; None before the first.
        sent: the newest round's updates as they travelled.
    """

    def __init__(self, script: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model: bytes | None = None
        self.sent: list[Arrays] = []
        self._script = script
        self._place = place
        self._patch = monkeypatch
        monkeypatch.syspath_prepend(str(script.parent))

    def arrays(self) -> Arrays:
        """Return the global model."""
        assert self.model is not None
        with TensorFile(self.model) as file:
            return {name: array.copy() for name, array in file.arrays().items()}

    def round(self, *datasets: Path) -> Arrays:
        """Play a round, the first one with the first edge alone. Return the global model."""
        sources = [self._update(each) for each in (datasets if self.model is not None else datasets[:1])]
        layout = None
        if self.model is not None:
            with TensorFile(self.model) as file:
                layout = file.tensors
        inputs = {}
        for number, source in enumerate(sources):
            checked = check_weights(source, layout, self.model)
            inputs[f"edge-{number}"] = Input(source, 1.0, checked.tensors, not_finite=checked.not_finite)
        start = RoundStart(self.model) if self.model is not None else INITIAL
        result = aggregate(inputs, choose("FedAvg", {}), self._place, start=start, round=1).model
        assert result is not None
        self.model = result.inline if result.inline is not None else (self._place / result.digest).read_bytes()
        return self.arrays()

    def evaluate(self, dataset: Path) -> dict[str, float]:
        """Let a worker measure the global model."""
        edge = self._run(dataset, Work("evaluate", "played", 1, TensorFile(self.model or b"")))
        return edge.evaluations[0]

    def _update(self, dataset: Path) -> bytes:
        if self.model is None:
            return dumps(self._run(dataset, Work("initialise", "played", 0)).updates[0])
        update = self._run(dataset, Work("train", "played", 1, TensorFile(self.model))).updates[0]
        with TensorFile(self.model) as base:
            changed = without_unchanged(update, base)
        self.sent.append(changed)
        return dumps(changed, LEFT_OUT)

    def _run(self, dataset: Path, work: Work) -> PlayedEdge:
        edge = PlayedEdge(dataset, work)
        self._patch.setattr(session, "current", edge)
        try:
            runpy.run_path(str(self._script), run_name="__main__")
        finally:
            self._patch.setattr(session, "current", None)
        return edge
