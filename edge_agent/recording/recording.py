"""One data set's recording: the rows that its node's messages make, each message once, through kills and restarts. One
thread at a time calls it."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from array import array
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.resources.telemetry_source import RecordedRows, TelemetrySource
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.edge_agent.recording.joining import Join
from heliograph.edge_agent.recording.labelled_rows import MAX_DEVICES, LabelledRows, too_many
from heliograph.edge_agent.recording.row_files import RowFiles
from heliograph.edge_agent.recording.row_store import RowStore
from heliograph.edge_agent.recording.samples import MISSING, samples_of, unreadable, value_of
from heliograph.edge_agent.recording.windows import Windows

MAX_UNFINISHED = 16 << 20
"""Bytes of the unfinished rows of all devices."""
_JOINED = ""
"""Stands for the device of what several devices have told."""
_MARK, _SPEC, _COUNTS, _JOIN, _WINDOW = "mark", "spec", "counts", "join", "window/"


class Version(NamedTuple):
    """A version of the rows: its directory, and their number."""

    path: Path
    rows: int


class Recording:
    """Rows in ``<directory>/rows.db`` and in files beside it.

    Args:
        source: the document's ``telemetry``. Rows of another one are deleted, unless it differs only in how much is
            kept, how often a version is made, and whether the cloud gets the messages.
        journal: uuid of the journal whose numbers ``mark`` is of.
        refused: called with the address of a message and the reason why it gives no sample.

    Raises sqlite3.Error and OSError; open it anew after one, since memory and disk may differ.

    Attributes:
        mark: the number in the journal's lane up to which messages are recorded.
        counts: what was recorded, and what was not.
    """

    def __init__(
        self, directory: Path, source: TelemetrySource, journal: str, world: World,
        refused: Callable[[str, Refused], None],
    ) -> None:  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        self.source = source
        self.mark = 0
        self.counts = RecordedRows()
        self._now = world.now
        self._refused = refused
        self._journal = journal
        self._fingerprint = _fingerprint(source)
        self._windows: dict[str, Windows] = {}
        self._filled: set[str] = set()
        self._join = Join(source.fields, source.join) if source.join is not None else None
        self._store = RowStore(directory / "rows.db", world)
        try:
            self._begin_anew()
            self._files = RowFiles(directory, source, self._store)
            self._most_devices = max(1, min(MAX_DEVICES, MAX_UNFINISHED // self._files.row_bytes))
            self._restore()
            most = max(1, self._files.quota // self._files.row_bytes)
            self._rows = LabelledRows(self._store, source.label, self.counts, most, self._now)
        except BaseException:
            self._store.close()
            raise
        self._saved = self.counts.model_copy()
        self._in_version = -1
        """The rows that were recorded when the newest version was made."""

    def close(self) -> None:
        self._store.close()

    @property
    def changed(self) -> bool:
        """Whether there may be rows that are in no version."""
        return self.counts.recorded != self._in_version

    @property
    def next_overdue(self) -> float | None:
        """Return the time at which a row has waited long enough for its label; None where none waits."""
        return self._rows.next_overdue

    def takes(self, device: str) -> bool:
        """Return whether messages of a device are recorded, as samples or as labels."""
        return device == self._rows.labeller or self._has_samples_of(device)

    def begin(self) -> None:
        """Begin to take messages; ``commit`` ends it."""
        self._store.begin()

    def take(self, n: int, device: str, address: str, event: Event) -> None:
        """Take the message with that number in the journal. One that is known already changes nothing."""
        if n <= self.mark:
            return
        found = _seconds(event.time)
        time = found if found is not None else self._now()
        try:
            told = self._rows.tell(device, event.data, time)
        except Refused as error:
            told = True
            self._refuse(address, error)
        if not self._has_samples_of(device) or (told and not self._has_sample(event.data)):
            return
        try:
            self._take_samples_of(device, event.data, time)
        except Refused as error:
            self._refuse(address, error)

    def commit(self, mark: int) -> None:
        """Keep what has been taken, and that the journal has been read up to that number."""
        self._rows.settle_overdue()
        self._rows.save()
        for device in self._filled:
            self._store.save(f"{_WINDOW}{device}", msgpack.packb(self._windows[device].state()))
        self._filled.clear()
        if self._join is not None and mark != self.mark:
            self._store.save(_JOIN, msgpack.packb(self._join.state()))
        self._save_counts()
        if mark != self.mark:
            self._store.save(_MARK, f"{self._journal} {mark}".encode())
        self._store.commit()
        self.mark = mark

    def make_version(self) -> Version | None:
        """Make a version of all rows, within what is to be kept; None where there are no rows."""
        self._in_version = self.counts.recorded
        self._files.seal()
        self._store.begin()
        self.counts.dropped += self._files.trim(self._now())
        self._save_counts()
        self._store.commit()
        found = self._files.make_version(self._fingerprint[:8])
        return Version(*found) if found is not None else None

    def keep_only(self, used: Collection[Path]) -> None:
        """Delete the versions but these."""
        self._files.keep_only(used)

    def _refuse(self, address: str, error: Refused) -> None:
        self.counts.unreadable += 1
        self._refused(address, error)

    def _has_samples_of(self, device: str) -> bool:
        if self._join is not None:
            return device in self._join.devices
        return any(fnmatchcase(device, pattern) for pattern in self.source.devices)

    def _has_sample(self, data: Any) -> bool:
        """Return whether a message that tells a label has samples too."""
        return self._join is None and any(value_of(data, field) is not MISSING for field in self.source.fields)

    def _take_samples_of(self, device: str, data: Any, time: float) -> None:
        if self._join is None:
            self._take_samples(device, samples_of(data, self.source.fields), time)
            return
        for tick, sample in self._join.add(device, data, time):
            self._take_samples(_JOINED, sample, tick)

    def _take_samples(self, device: str, samples: array[float], time: float) -> None:
        window, channels = self.source.window, len(self.source.fields)
        if window is None:
            if len(samples) != channels:
                raise unreadable(self.source.fields[0], "one number, since the data set has no window",
                                 f"{len(samples) // channels}")  # fmt: skip
            self._rows.add(device, time, samples.tobytes())
            return
        windows = self._windows.get(device)
        if windows is None:
            if len(self._windows) >= self._most_devices:
                raise too_many(self._most_devices)
            windows = self._windows[device] = self._new_windows()
        self._filled.add(device)
        for row in windows.add(samples, time):
            self._rows.add(device, time, row)

    def _new_windows(self) -> Windows:
        window = self.source.window
        assert window is not None
        return Windows(len(self.source.fields), window.length, window.stride, window.gap_seconds)

    def _begin_anew(self) -> None:
        """Delete the rows of another document."""
        before = self._store.load(_SPEC)
        if before == self._fingerprint.encode():
            return
        self._store.begin()
        if before is not None:
            self._store.clear()
        self._store.save(_SPEC, self._fingerprint.encode())
        self._store.commit()

    def _restore(self) -> None:
        if (counts := self._store.load(_COUNTS)) is not None:
            with suppress(ValueError):
                self.counts = RecordedRows.model_validate_json(counts)
        uuid, _, mark = (self._store.load(_MARK) or b"").decode().partition(" ")
        self.mark = int(mark) if uuid == self._journal and mark.isdecimal() else 0
        for device, state in self._store.load_all(_WINDOW):
            self._windows[device] = self._new_windows()
            self._windows[device].restore(*msgpack.unpackb(state))
        join = self._store.load(_JOIN)
        if self._join is not None and join is not None:
            self._join.restore(msgpack.unpackb(join))

    def _save_counts(self) -> None:
        if self.counts != self._saved:
            self._store.save(_COUNTS, self.counts.model_dump_json().encode())
            self._saved = self.counts.model_copy()


def open_recording(
    directory: Path, source: TelemetrySource, journal: str, world: World, refused: Callable[[str, Refused], None],
    warn: Callable[[str], None],
) -> Recording:  # fmt: skip
    """Return a data set's recording. One whose file is damaged is set aside, and begins anew."""
    try:
        return Recording(directory, source, journal, world, refused)
    except sqlite3.OperationalError:  # a full disk, a missing permission
        raise
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        aside = directory.with_name(f".damaged-{directory.name}")
        shutil.rmtree(aside, ignore_errors=True)
        directory.rename(aside)
        warn(f"{directory}: {error}; it is set aside as {aside.name}, and its rows are recorded anew")
        return Recording(directory, source, journal, world, refused)


def _fingerprint(source: TelemetrySource) -> str:
    """Return a digest of what decides which rows there are."""
    tree = source.model_dump(mode="json", exclude={"keep", "every_seconds", "forward"})
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=64)  # many messages are of the same moment
def _seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
