"""A text file with a path and a label a line: an index of files that lie beside it, or in directories below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.referenced_files import require_beside
from heliograph.edge_agent.datasets.unusable import Unusable

MAX_LINE = 8192
MAX_FILES = 2_000_000


@dataclass(frozen=True)
class TxtIndex:
    """The files that an index names, in its order, and the number of its classes."""

    files: list[str]
    classes: int

    @property
    def samples(self) -> int:
        return len(self.files)

    @property
    def columns(self) -> dict[str, str]:
        return {"path": "file", "label": f"text, {self.classes} values"}


def read_index(stream: BinaryIO, labels: LabelCounts | None = None) -> TxtIndex:
    """Read an index. Raise Unusable, naming the line, for one without path and label, or with a path that comes twice
    or leads elsewhere."""
    files: dict[str, int] = {}
    classes = set[str]()
    for number, path, label, _ in lines(stream):
        if not label:
            raise Unusable(f"has no label in line {number}; each line is a path, a space or tab, and a label")
        path = require_beside(path, f"in line {number}")
        if path in files:
            raise Unusable(f"names {shorten(path)} twice, in lines {files[path]} and {number}; take one away")
        files[path] = number
        if len(files) > MAX_FILES:
            raise Unusable(f"names more than {MAX_FILES} files; pack them into fewer, larger ones")
        if len(classes) < MAX_FILES:
            classes.add(label)
        if labels is not None:
            labels.add(label)
    if not files:
        raise Unusable("names no files; write a path and a label a line")
    return TxtIndex(list(files), len(classes))


def looks_like_index(stream: BinaryIO, directory: Path) -> bool:
    """Return whether the first line names a file of that directory."""
    try:
        _, path, label, _ = next(lines(stream))
        require_beside(path, "")
        return bool(label) and (directory / path).is_file()
    except (Unusable, StopIteration, OSError, ValueError):
        return False


def lines(stream: BinaryIO) -> Iterator[tuple[int, str, str, str]]:
    """Yield number, path, label and the whole of each line. A comma may separate them too, a path may hold spaces."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Unusable(f"has a line {number} of more than {MAX_LINE} bytes; it is no index of files")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise Unusable(f"is no UTF-8 text in line {number}; save it as UTF-8") from None
        if not text or text.startswith("#"):
            continue
        for mark in ("\t", ",", " "):
            path, found, label = text.rpartition(mark)
            if found:
                yield number, path.strip(), label.strip(), text
                break
        else:
            yield number, text, "", text
