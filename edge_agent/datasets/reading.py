"""One pass over the files of a data set: each is hashed once, and not read at all while it has not changed."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.known_files import KnownFile, KnownFiles, place_of
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.manifest import FileEntry
from heliograph.edge_agent.datasets.source import Source, open_source
from heliograph.edge_agent.datasets.unusable import Interrupted, Unusable

FILES_STEP = 250
"""Files between two reports of progress."""
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a pass is: the bytes that were read, and files of how many; 0 files in all for a data set of one."""

    read: int
    files: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How the files of a data set are read.

    Attributes:
        format: one of ``source.FORMATS``; None: content and ending decide.
        header: whether a csv's first line names its columns; None: its cells decide.
        label: column or array with the labels; None: the form's usual one.
        counts_labels: whether labels are counted.
        roots: directories below which links must lead; without any they may lead anywhere.
    """

    format: str | None = None
    header: Header | None = None
    label: str | None = None
    counts_labels: bool = False
    roots: Sequence[Path] = ()

    @property
    def key(self) -> str:
        """Tell it from other ways to read the same file."""
        return f"{self.format or ''}/{self.header or ''}/{self.counts_labels:d}/{self.label or ''}"

    def labels(self) -> LabelCounts | None:
        return LabelCounts(self.label) if self.counts_labels else None


class Reading:
    """A pass over one data set.

    Args:
        known: what is known of unchanged files.
        progress: called every few MB and every few hundred files.
        interrupted: returns whether nobody waits for the pass any more.
    """

    def __init__(
        self,
        dataset: str,
        read_as: ReadAs,
        known: KnownFiles | None = None,
        progress: Callable[[Advance], None] | None = None,
        interrupted: Callable[[], bool] | None = None,
    ) -> None:
        self.dataset = dataset
        self.read_as = read_as
        self.known = known
        self.files_in_all = 0
        self.seen = array("q")
        """The files of this pass, as ``place_of`` tells them: eight bytes each."""
        self._progress = progress
        self._interrupted = interrupted
        self._files = 0
        self._read = 0

    def file(
        self, path: Path, name: str, kind: str, content_of: Callable[[Source], Mapping[str, Any]]
    ) -> tuple[FileEntry, Mapping[str, Any]]:
        """Return a file's entry in the manifest and its content.

        Args:
            name: the file's path in the manifest.
            kind: what ``content_of`` reads; equal kinds give the same content of the same bytes.
            content_of: returns what is told of the file, as JSON has it, with its ``samples``.

        Raise Unusable as ``content_of`` does, OSError where the file cannot be read, Interrupted.
        """
        self._check()
        found, size = self._known(path, kind) or self._read_file(path, name, kind, content_of)
        self._read += size
        self._files += 1
        if self._progress is not None and self._files % FILES_STEP == 0:
            self._progress(Advance(self._read, self._files, self.files_in_all))
        samples, prefix = int(found.content.get("samples", 0)), str(found.content.get("prefix", ""))
        return FileEntry(name, size, found.sha256, samples, prefix), found.content

    def before(self, name: str) -> FileEntry | None:
        """Return a file as it was in the newest version; None where it was not there."""
        return self.known.entry(self.dataset, name) if self.known is not None else None

    @property
    def count_before(self) -> int:
        return self.known.count(self.dataset) if self.known is not None else 0

    def _known(self, path: Path, kind: str) -> tuple[KnownFile, int] | None:
        if self.known is None:
            return None
        stat = path.stat()
        self.seen.append(place_of(stat.st_dev, stat.st_ino, kind))
        found = self.known.find(self.dataset, stat, kind)
        return (found, stat.st_size) if found is not None else None

    def _read_file(
        self, path: Path, name: str, kind: str, content_of: Callable[[Source], Mapping[str, Any]]
    ) -> tuple[KnownFile, int]:
        with open_source(path, self._advanced) as source:
            before = os.fstat(source.file.fileno())
            content = dict(content_of(source))
            old = self.before(name)
            digest, prefix = self._hashed(source.file, source.size, old.size if old is not None else 0)
            after = os.fstat(source.file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise Unusable("changed while it was read; write it under another name and rename it when it is whole")
        if prefix:
            content["prefix"] = prefix
        found = KnownFile(digest, content)
        if self.known is not None:
            self.known.remember(self.dataset, after, kind, found)
        return found, after.st_size

    def _hashed(self, file: BinaryIO, size: int, old_size: int) -> tuple[str, str]:
        """Return a file's SHA-256, and that of its first ``old_size`` bytes where it has more."""
        file.seek(0)
        whole, prefix, left = hashlib.sha256(), "", old_size
        block = min(_BLOCK, size + 1)  # a read takes that much memory first, whatever comes
        while data := file.read(min(block, left) if left else block):
            whole.update(data)
            if left:
                left -= len(data)
                if not left:
                    prefix = whole.hexdigest()
        return whole.hexdigest(), prefix

    def _advanced(self, read: int) -> None:
        self._check()
        if self._progress is not None:
            self._progress(Advance(self._read + read, self._files, self.files_in_all))

    def _check(self) -> None:
        if self._interrupted is not None and self._interrupted():
            raise Interrupted


def named(path: str, error: Unusable) -> Unusable:
    """Return a file's fault as that of its data set."""
    return Unusable(f"has {shorten(path)}, which {error}")

