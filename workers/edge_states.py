"""What an algorithm's term keeps on its edge: staged with each update, valid once a round has counted that update.

The file of an update's state is named by the update's digest. A state is the edge's present one where the coordinator
says that the edge's last counted update has this digest. So the state of a late or refused update is never used, and an
update that was counted while the edge was away is.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract.weights_file import TensorFile, parts
from heliograph.core.durable_files import write_durably
from heliograph.core.worker_directory import EDGE_STATE

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

STAGED = 4
"""States of updates that may still be counted, at most: a worker that was killed trains a round again."""


class EdgeStates:
    """The states of one worker's job.

    Args:
        directory: the worker's own; it outlives the process.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / EDGE_STATE

    def stage(self, update: str, state: Arrays) -> None:
        """Keep the state of an update, unless it is empty."""
        if not state:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        write_durably(self._directory / update, parts(state))

    def current(self, counted: str | None) -> TensorFile | None:
        """Return the edge's present state; None where no update of it has counted, or the disk has lost its state.

        Older states that no round has counted are deleted.

        Args:
            counted: digest of the edge's last counted update.
        """
        staged = [each for each in self._files() if each.name != counted]
        for each in sorted(staged, key=lambda file: file.stat().st_mtime)[:-STAGED]:
            each.unlink(missing_ok=True)
        if counted is None:
            return None
        with suppress(FileNotFoundError):
            return TensorFile(self._directory / counted)
        return None

    def _files(self) -> list[Path]:
        return [each for each in self._directory.glob("*") if each.is_file()]
