"""A data file cut into one file per edge, in the form it came in: what ``run`` and the demo give to their edges."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError, Refused
from heliograph.local.split import Split, held_out

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[Any, Any]

LABELS = ("y", "label", "labels", "target", "targets", "class")
"""What the labels' array or column is called where nobody says."""


@dataclass(frozen=True)
class Parts:
    """One file for each edge, with the number of its samples, and the held-out file where one was asked for."""

    files: dict[str, Path] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    test: Path | None = None


def cut(
    source: Path, directory: Path, edges: list[str], split: Split, *, seed: int, test: float = 0.0, label: str = ""
) -> Parts:
    """Cuts an npz (arrays with a common first axis) or a csv (with a header) into a file per edge.

    Args:
        test: share of the samples that is held out, 0 to 1.
        label: the array or column with the classes, where ``split`` goes by them; LABELS are tried without it.
    Raises Refused or HeliographError naming the file where it is no such data set.
    """
    import numpy as np

    if not source.is_file():
        raise HeliographError(f"{source}: there is no such file; --data wants an npz or a csv")
    samples, columns, write = (_npz if _is_npz(source) else _csv)(source)
    classes = np.zeros(samples) if not split.by_label else columns[_label(source, columns, label)]
    train, apart = held_out(samples, test, seed) if test else (np.arange(samples), np.arange(0))
    ending = source.suffix or ".npz"
    parts = Parts(test=directory / f"test{ending}" if test else None)
    directory.mkdir(parents=True, exist_ok=True)
    if parts.test is not None:
        write(parts.test, apart)
    for edge, places in zip(edges, split.parts(classes[train], len(edges), seed), strict=True):
        parts.files[edge] = directory / f"{edge}{ending}"
        parts.samples[edge] = len(places)
        write(parts.files[edge], train[places])
    return parts


_Read = tuple[int, Mapping[str, Any], Callable[[Path, Any], None]]


def _is_npz(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(2) == b"PK"


def _npz(source: Path) -> _Read:
    from zipfile import BadZipFile
    from zlib import error as BadStream

    import numpy as np

    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, BadZipFile, BadStream) as error:
        raise HeliographError(f"{source}: not an npz of plain arrays: {error}") from None
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not lengths or len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items()) or "no array"
        raise Refused("invalid", topic=str(source), expected="arrays of as many samples each", got=found)

    def write(target: Path, places: Places) -> None:
        np.savez(target, **{name: array[places] for name, array in arrays.items()})

    return next(iter(lengths.values())), arrays, write


def _csv(source: Path) -> _Read:
    import numpy as np

    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except (ValueError, csv.Error, UnicodeDecodeError):
        raise HeliographError(f"{source}: neither an npz nor a csv with a header in UTF-8") from None
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise Refused("invalid", topic=f"{source}:{number}", expected=f"{len(header)} fields, as the header has",
                          got=f"{len(row)}")  # fmt: skip

    def write(target: Path, places: Places) -> None:
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(rows[place] for place in places)])

    return len(rows), {name: np.array([row[at] for row in rows]) for at, name in enumerate(header)}, write


def _label(source: Path, columns: Mapping[str, Any], label: str) -> str:
    found = next((name for name in ((label,) if label else LABELS) if name in columns), None)
    if found is None or columns[found].ndim != 1:
        there = ", ".join(columns)[:200]
        expected = f"one of {there}" if label else f"an array or column called {', '.join(LABELS)}"
        hint = "Name the array or column of classes with --label, or split with iid."
        raise Refused("no-labels", topic=str(source), field="--label", expected=expected, got=label or there, hint=hint)
    return found
