"""The global models of a job as files, written while the job runs: nothing that was learned is thrown away."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import HeliographError
from heliograph.local.run_folder import RunFolder, link_or_copy

MAX_BYTES = 2 << 30
"""Bytes of all models that a run keeps; beyond it the oldest goes, but neither the best nor the last two."""
ALWAYS = 2
"""Number of the newest models that are always kept: the evaluation of one comes while the next is trained."""
_LESS_IS_BETTER = ("loss", "error", "mse", "rmse", "mae", "mape", "perplexity")

Fetch = Callable[[WeightsRef, Path], Awaitable[object]]


class KeptModels:
    """Writes each new global model, the last and the best into a run's folder.

    Args:
        fetch: writes the weights of a reference to a file.
        report: called with a line about a model that cannot be kept.
    """

    def __init__(
        self, folder: RunFolder, fetch: Fetch, report: Callable[[str], None], max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._fetch = fetch
        self._report = report
        self._max_bytes = max_bytes
        self._files: dict[int, Path] = {}
        self._sizes: dict[int, int] = {}
        self._digest = ""
        self.last_round = 0
        """The round that closed with the last model; 0 while there is none."""
        self.best_round = 0
        self.best: tuple[str, float] | None = None
        """Metric and value of the best model's evaluation."""

    async def keep(self, round: int, model: WeightsRef | None) -> None:
        """Fetch the global model that a round has closed with, unless it is the one before."""
        if model is None or round <= self.last_round or model.digest == self._digest:
            return
        file = self._folder.models / f"round-{round:04d}.safetensors"
        self._make_room(model.size)
        try:
            try:
                await self._fetch(model, file)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                self._make_room(self._max_bytes)  # all but the best and the last two
                await self._fetch(model, file)
            link_or_copy(file, self._folder.model)
        except (HeliographError, OSError) as error:
            self._report(f"the model of round {round} is not kept: {error}")
            return
        self._files[round], self._sizes[round] = file, model.size
        self.last_round, self._digest = round, model.digest

    def evaluated(self, round: int, metrics: Mapping[str, float]) -> None:
        """Note the evaluation of a round's model: link the best one so far."""
        name = best_metric(metrics)
        if name is None or round not in self._files:
            return
        value = metrics[name]
        if self.best is not None and (self.best[0] != name or not _better(name, value, self.best[1])):
            return
        self.best, self.best_round = (name, value), round
        link_or_copy(self._files[round], self._folder.best)

    def _make_room(self, size: int) -> None:
        """Delete the oldest models until one of this size has room; it is the newest itself."""
        kept = [self.best_round, *sorted(self._files)[1 - ALWAYS :]]
        for round in sorted(self._files):
            if sum(self._sizes.values()) + size <= self._max_bytes:
                return
            if round not in kept:
                self._files.pop(round).unlink(missing_ok=True)
                del self._sizes[round]


def best_metric(metrics: Mapping[str, float]) -> str | None:
    """Return the metric that decides which model is best: accuracy, or the first by name; None without metrics."""
    return "accuracy" if "accuracy" in metrics else min(metrics, default=None)


def _better(name: str, value: float, than: float) -> bool:
    words = name.lower().replace("-", "_").split("_")
    return value < than if any(word in _LESS_IS_BETTER for word in words) else value > than
