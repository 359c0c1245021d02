"""The manifest of a data set's files, its version, and what a version holds more than the one before. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from heliograph.bus.contract.resources.dataset import NAMED_FILES, GrownFile
from heliograph.core.errors import shorten
from heliograph.core.text import encodable
from heliograph.edge_agent.datasets.unusable import Unusable

_ROWS = re.compile(r"rows-([0-9]{1,15})-([0-9]{1,15})\.npz")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a data set.

    Attributes:
        path: path below the data set's directory; of a data set of one file its name.
        samples: rows or images in it; 0 where they are not told by file, as for the arrays of an ``npy`` directory.
        prefix: SHA-256 of its first bytes, as many as the file had in the version before; empty where they were not
            read.
    """

    path: str
    size: int
    sha256: str
    samples: int = 0
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Growth:
    """What a version holds more than the one before, of which nothing was changed or taken away."""

    samples: int
    files: tuple[GrownFile, ...]


def version_of(entries: Sequence[FileEntry]) -> str:
    """Return the SHA-256 of the manifest: for each file a line ``path, size, SHA-256``, sorted by the paths' bytes.

    Raise Unusable for a path with a line break, which could stand for two lines.
    """
    manifest = hashlib.sha256()
    in_order = all(one < other for one, other in pairwise(map(_encoded_path, entries)))  # as they mostly are
    for each in entries if in_order else sorted(entries, key=_encoded_path):
        manifest.update(b"%s, %d, %s\n" % (_encoded_path(each), each.size, each.sha256.encode()))
    return manifest.hexdigest()


def growth(
    before: Callable[[str], FileEntry | None], count: int, after: Iterable[FileEntry], rewritten: str = ""
) -> Growth | None:
    """Return what the files hold more than before; None where a file was changed otherwise, or is missing.

    Args:
        before: returns the file of that path as it was before; None where it was not there.
        count: number of files before.
        rewritten: path of a list of the other files that is written anew where it grows, as JSON is: it has no prefix.
            Its new samples are the files that it did not name before, which have no range of rows.
    """
    kept, samples, grown = 0, 0, list[GrownFile]()
    for each in after:
        old = before(each.path)
        if old is not None:
            kept += 1
            if (old.size, old.sha256) == (each.size, each.sha256):
                continue
            if each.samples < old.samples or (each.prefix != old.sha256 and each.path != rewritten):
                return None
        first, prefix = (old.samples, old.sha256) if old is not None else (0, "")
        samples += each.samples - first
        if each.samples > first and each.path != rewritten and len(grown) < NAMED_FILES:
            grown.append(GrownFile(path=encodable(each.path), prefix=prefix, first=first, end=each.samples))
    return Growth(samples, tuple(grown)) if kept == count else None


def numbered_growth(before: Iterable[str], after: Sequence[FileEntry]) -> Growth | None:
    """Return what files hold more than those before, where their names tell the rows in them: ``rows-FIRST-END.npz``,
    as those of recorded rows do, of which the oldest may be gone. None where nothing of it is known.

    Args:
        before: paths of the files before.
    """
    known = max((_rows_of(each)[1] for each in before), default=0)
    if not 0 < known <= max((_rows_of(each.path)[1] for each in after), default=0):
        return None
    samples, grown = 0, list[GrownFile]()
    for each in after:
        first, end = _rows_of(each.path)
        if end > known:
            new = min(end - first, end - known)
            samples += new
            if len(grown) < NAMED_FILES:
                grown.append(GrownFile(path=each.path, first=end - first - new, end=end - first))
    return Growth(samples, tuple(grown))


def _rows_of(path: str) -> tuple[int, int]:
    found = _ROWS.fullmatch(path)
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)


def _encoded_path(entry: FileEntry) -> bytes:
    if "\n" in entry.path or "\r" in entry.path:
        raise Unusable(f"holds {shorten(entry.path)!r}, whose name has a line break; rename it")
    return entry.path.encode("utf-8", "surrogateescape")
