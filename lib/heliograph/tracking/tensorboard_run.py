"""A job as a run of TensorBoard: a folder of event files.

A round is one record, so it is there whole or not at all. Each process appends a file of its own; TensorBoard reads the
files of a folder as one run.
"""

from __future__ import annotations

import fcntl
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from heliograph.core.errors import HeliographError
from heliograph.tracking.run_writer import JobFacts, Written
from heliograph.tracking.values import COUNTED, TEST

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter


class TensorBoardRun:
    """Writes event files into a folder of the job below ``directory``, ``NAME-SERIES``."""

    def __init__(self, directory: Path) -> None:
        self.place = f"tensorboard --logdir {directory}"
        self._directory = directory
        self._lock: IO[bytes] | None = None
        self._writer: EventsWriter | None = None

    def require(self) -> None:
        if importlib.util.find_spec("tensorboardX") is None:
            raise HeliographError("tensorboardX is not installed here: pip install 'heliograph[tensorboard]'")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def open(self, job: JobFacts) -> Written:
        from tensorboardX.event_file_writer import EventsWriter

        from heliograph.tracking.event_files import EVENT_FILES, scalars_in

        self.close()
        folder = self._directory / f"{job.name}-{job.series[:8]}"
        found, newest = Written(), dict[str, int]()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
            for step, values in scalars_in(folder):
                if COUNTED in values:
                    found.rounds.add(step)
                elif all(name.startswith(TEST) for name in values):
                    found.evaluated.add(step)
                found.sums |= {name: each for name, each in values.items() if step >= newest.get(name, step)}
                newest |= {name: max(step, newest.get(name, step)) for name in values}
            # files of one second would have one name, and the later one would replace the earlier
            self._writer = EventsWriter(str(folder / "events"), f".{len([*folder.glob(EVENT_FILES)]):06}")
            self._writer.flush()
        except OSError as error:
            raise self._unwritable(error) from None
        return found

    def write(self, step: int, time: float, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        assert self._writer is not None, "open() comes first"
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        try:
            self._writer.write_event(Event(wall_time=time, step=step, summary=summary))
            self._writer.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self, phase: str = "") -> None:
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            self._lock.close()
        self._writer = self._lock = None

    def _unwritable(self, error: OSError) -> HeliographError:
        return HeliographError(f"{self._directory} cannot be written: {error.strerror or error}")


def _locked(folder: Path) -> IO[bytes]:
    """Return an open file that locks the folder. Raise HeliographError where another process has locked it."""
    lock = (folder / ".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        said = f"another process tracks this job in {folder}: end it, or name another directory"
        raise HeliographError(said) from None
    return lock
