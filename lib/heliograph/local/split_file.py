"""Splitting a data file into one file for each edge, of the same form, for ``run`` and the demo."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.private_files import make_private
from heliograph.local.split import Split, train_and_test

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[Any, Any]

LABELS = ("y", "label", "labels", "target", "targets", "class")
"""Names tried for the array or column of labels."""


@dataclass(frozen=True)
class Parts:
    """The file and the number of samples of each edge, and the test file if one is wanted."""

    files: dict[str, Path] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    test: Path | None = None


def split_file(
    source: Path, directory: Path, edges: list[str], split: Split, *, seed: int, test: float = 0.0, label: str = ""
) -> Parts:
    """Split an npz (arrays with a common first axis) or a csv (with a header) into a file for each edge.

    Args:
        source: the npz or csv.
        directory: directory of the files written.
        edges: names of the edges.
        split: kind of split.
        seed: seed of the random generator.
        test: share of the samples kept for the test file, 0 to 1.
        label: name of the array or column of classes, for a split by label; without it LABELS are tried.

    Raises:
        HeliographError: naming the file, if it is missing, unreadable, or no such data set.
    """
    import numpy as np

    if not source.is_file():
        raise HeliographError(f"{source}: there is no such file; --data takes an npz or a csv")
    samples, columns, write = (_npz if _is_npz(source) else _csv)(source)
    classes = np.zeros(samples) if not split.by_label else columns[_label_column(source, columns, label)]
    train, kept = train_and_test(samples, test, seed) if test else (np.arange(samples), np.arange(0))
    ending = source.suffix or ".npz"
    parts = Parts(test=directory / f"test{ending}" if test else None)
    make_private(directory)
    if parts.test is not None:
        write(parts.test, kept)
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
    import numpy as np

    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zipfile raise many on damaged files: TokenError, NotImplementedError, …
        raise HeliographError(f"{source}: not an npz of plain arrays: {error}") from None
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not lengths or len(set(lengths.values())) > 1:
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items()) or "no array"
        raise Refused("invalid", topic=str(source), expected="arrays with the same number of samples", got=found)

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
            raise Refused("invalid", topic=f"{source}:{number}", expected=f"{len(header)} fields, as in the header",
                          got=f"{len(row)}")  # fmt: skip

    def write(target: Path, places: Places) -> None:
        with target.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(rows[place] for place in places)])

    return len(rows), {name: np.array([row[at] for row in rows]) for at, name in enumerate(header)}, write


def _label_column(source: Path, columns: Mapping[str, Any], label: str) -> str:
    found = next((name for name in ((label,) if label else LABELS) if name in columns), None)
    if found is None or columns[found].ndim != 1:
        names = ", ".join(columns)[:200]
        expected = f"one of {names}" if label else f"an array or column called {', '.join(LABELS)}"
        hint = "Name the array or column of classes with --label, or split with iid."
        raise Refused("no-labels", topic=str(source), field="--label", expected=expected, got=label or names, hint=hint)
    return found
