"""The files of a data set's rows: finished segments, which never change, and versions, which are directories of links
to them. A worker reads one version; the segments that it links to stay on the disk with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from heliograph.bus.contract.resources.telemetry_source import TelemetrySource
from heliograph.edge_agent.recording.npz_writer import Column, write_npz
from heliograph.edge_agent.recording.row_store import RowStore, Segment
from heliograph.edge_agent.recording.windows import ITEM

SEGMENT = 4 << 20
"""Bytes of a segment, at most: of so many new rows a file is written again with each version until it is full."""
PARTS = 8
"""The quota is some so many segments: a segment is what goes together."""
_OVERHEAD = 16
"""Bytes of a row's time and label."""


class RowFiles:
    """Files below the directory of one data set. Raises OSError."""

    def __init__(self, directory: Path, source: TelemetrySource, store: RowStore) -> None:
        self._segments = directory / "segments"
        self._versions = directory / "versions"
        self._source = source
        self._store = store
        channels, keep = len(source.fields), source.keep
        self._shape = (channels,) if source.window is None else (source.window.length, channels)
        row = self.row_bytes
        self.quota = keep.megabytes << 20
        self._full = max(1, min(SEGMENT, self.quota // PARTS) // row)
        if keep.rows is not None:
            self._full = min(self._full, keep.rows // PARTS)
        for place in (self._segments, self._versions):
            place.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._versions)  # of an earlier start: a power cut may have left them half written
        self._versions.mkdir()
        known = {segment_name(each.first, each.end): each.first for each in store.segments()}
        for file in self._segments.iterdir():
            if file.name not in known:
                file.unlink()  # its rows are in the store still
        for name, first in known.items():
            if not (self._segments / name).exists():
                store.forget_segment(first)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in a file."""
        values = len(self._source.fields) * (self._source.window.length if self._source.window is not None else 1)
        return values * ITEM + _OVERHEAD

    def seal(self) -> None:
        """Write segments of the rows as long as one is full."""
        while True:
            first, count, newest = self._store.tail(self._full)
            if count < self._full:
                return
            end = first + count
            file = self._segments / segment_name(first, end)
            self._write(file, first, end)
            self._store.begin()
            self._store.seal(Segment(first, end, file.stat().st_size, newest))
            self._store.commit()

    def trim(self, now: float) -> int:
        """Delete the oldest rows beyond what is to be kept. Return their number."""
        keep, segments = self._source.keep, self._store.segments()
        tail = self._store.count_tail()
        size = sum(each.size for each in segments) + tail * self.row_bytes
        rows = sum(each.end - each.first for each in segments) + tail
        oldest = now - keep.days * 86400 if keep.days is not None else None
        gone = 0
        for each in segments:
            if not (size > self.quota or (keep.rows is not None and rows > keep.rows)
                    or (oldest is not None and each.newest < oldest)):  # fmt: skip
                break
            self._store.forget_segment(each.first)
            (self._segments / segment_name(each.first, each.end)).unlink(missing_ok=True)
            size, rows, gone = size - each.size, rows - (each.end - each.first), gone + each.end - each.first
        if oldest is not None and gone == sum(each.end - each.first for each in segments):
            gone += self._store.drop_tail_before(oldest)
        return gone

    def make_version(self, mark: str) -> tuple[Path, int] | None:
        """Return the directory with all rows, and their number; None where there are none.

        Args:
            mark: tells versions of different recordings from each other.
        """
        segments = self._store.segments()
        first, count, _ = self._store.tail(self._full)
        if not segments and not count:
            return None
        begin, end = (segments[0].first if segments else first), (first + count if count else segments[-1].end)
        place = self._versions / f"{mark}-{begin}-{end}"
        if not place.exists():
            making = self._versions / ".new"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for each in segments:
                name = segment_name(each.first, each.end)
                _link(self._segments / name, making / name)
            if count:
                self._write(making / segment_name(first, end), first, end)
            making.rename(place)
        return place, sum(each.end - each.first for each in segments) + count

    def keep_only(self, used: Collection[Path]) -> None:
        """Delete the versions but these."""
        for place in self._versions.iterdir():
            if place not in used:
                shutil.rmtree(place, ignore_errors=True)

    def clear(self) -> None:
        """Delete all segments."""
        for file in self._segments.iterdir():
            file.unlink()

    def _write(self, file: Path, first: int, end: int) -> None:
        partial = file.with_name(f".{file.name}")
        write_npz(partial, self._columns(first, end))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)
        with suppress(OSError):  # not every file system syncs a directory
            directory = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _columns(self, first: int, end: int) -> Iterator[Column]:
        count, label = end - first, self._source.label
        yield Column("x", "f4", (count, *self._shape), self._store.xs(first, end))
        yield Column("time", "f8", (count,), self._store.numbers("time", "d", first, end))
        if label is not None:
            npy, kind = ("i8", "q") if label.classes else ("f4", "f")
            yield Column("y", npy, (count,), self._store.numbers("y", kind, first, end))


def segment_name(first: int, end: int) -> str:
    """Return the name of the file with these rows. Names are in the order of the rows."""
    return f"rows-{first:012d}-{end:012d}.npz"


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except OSError:  # a file system without links
        shutil.copyfile(file, target)
