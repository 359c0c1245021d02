"""Which version of a data set that the node records each worker reads: rows come while it runs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.telemetry_source import RecordedRows


class RecordedVersions:
    """The recorded data sets of a node.

    Attributes:
        counts: what was recorded of each, by name.
    """

    def __init__(self) -> None:
        self.counts: dict[str, RecordedRows] = {}
        self._read: dict[tuple[str, str], tuple[Path, int]] = {}

    def read(self, worker: str, name: str, version: Path, samples: int) -> None:
        """Take note that a worker, which is being started, reads this version of a data set as long as it runs."""
        if name in self.counts:
            self._read[worker, name] = version, samples

    def read_by(self, worker: str, name: str) -> tuple[Path, int] | None:
        """Return the version that a worker reads, and its samples; None where the data set is no recorded one."""
        return self._read.get((worker, name))

    def read_of(self, name: str) -> set[Path]:
        """Return the versions of a data set that workers read."""
        return {path for (_, of), (path, _) in self._read.items() if of == name}

    def keep_only(self, workers: Collection[str]) -> None:
        """Forget what other workers than these have read."""
        for worker, name in [each for each in self._read if each[0] not in workers]:
            del self._read[worker, name]

    def forget(self, name: str) -> bool:
        """Forget a data set that is no recorded one any more. Return whether it was one."""
        return self.counts.pop(name, None) is not None
