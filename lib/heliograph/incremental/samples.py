"""Labelled samples as arrays: made from a script's own, joined, balanced. Needs NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.label_queue import MAX_CLASSES
from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
ID_BYTES = 32
MOST_REPEATS = 100
"""Times that a sample occurs among balanced ones, at most: one sample says little, however often it comes."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples with their labels.

    Attributes:
        x: (n, ...), one sample in each row; of texts and of rows of named columns an array of objects (n).
        y: (n) int64, the index of each sample's class.
        id: (n, 32) uint8, the SHA-256 of each sample.
    """

    x: Array
    y: Array
    id: Array

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, chosen: Any) -> Samples:
        return Samples(self.x[chosen], self.y[chosen], self.id[chosen])

    @property
    def classes(self) -> Array:
        """The classes that occur, in the order of their index."""
        return np.unique(self.y)

    def ids(self) -> list[str]:
        """Return the SHA-256 of each sample in hexadecimal digits."""
        text = self.id.tobytes().hex()
        return [text[start : start + 2 * ID_BYTES] for start in range(0, len(text), 2 * ID_BYTES)]


def none_like(samples: Samples) -> Samples:
    """Return no samples, of the same form."""
    return samples[:0]


def samples_of(x: Any, y: Any, number_of: Callable[[Any], int] | None = None) -> Samples:
    """Return a script's own samples.

    Args:
        x: an array or tensor (n, ...), or a sequence of texts or of mappings.
        y: (n), the index of each sample's class; or its name, which ``number_of`` turns into an index.

    Raises:
        Refused: where the numbers of samples and labels differ, or a label is neither.
    """
    rows, labels = rows_of(x), plain(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(rows):
        raise Refused("bad-shape", field="y", expected=f"a label for each of the {len(rows)} samples of x",
                      got=f"shape {labels.shape}",
                      hint="Of one-hot labels give y.argmax(1).")  # fmt: skip
    if labels.dtype.kind in "USO" and number_of is not None:
        labels = np.array([number_of(each) for each in labels.tolist()], np.int64)
    return Samples(rows, indices_of(labels, "y"), _ids(rows))


def joined(parts: Sequence[Samples]) -> Samples:
    """Return samples one after the other. Of a sample that comes twice the last is taken, as its newest label.

    Raise Refused where their forms differ.
    """
    parts = [each for each in parts if len(each)] or list(parts[:1])
    if len(parts) > 1:
        first = parts[0].x
        for each in parts[1:]:
            if each.x.shape[1:] != first.shape[1:] or (each.x.dtype.kind == "O") != (first.dtype.kind == "O"):
                raise Refused("bad-shape", field="x", expected=f"samples of one form, {_form(first)}",
                              got=_form(each.x), hint="Give before= to make the model's input from one "
                              "sample.")  # fmt: skip
    whole = parts[0] if len(parts) == 1 else Samples(
        np.concatenate([each.x for each in parts]), np.concatenate([each.y for each in parts]),
        np.concatenate([each.id for each in parts]),
    )  # fmt: skip
    newest = len(whole) - 1 - _first_of_each(whole.id[::-1])
    return whole if len(newest) == len(whole) else whole[np.sort(newest)]


def without(samples: Samples, others: Samples) -> Samples:
    """Return the samples that are not among ``others``."""
    if not len(samples) or not len(others):
        return samples
    return samples[~np.isin(_keys(samples.id), _keys(others.id))]


def balanced(y: Array, rng: np.random.Generator) -> Array:
    """Return shuffled places in ``y`` such that each class has as many as the largest has: its samples are repeated, up
    to ``MOST_REPEATS`` times."""
    classes, counts = np.unique(y, return_counts=True)
    most = max(counts, default=0)
    chosen = [_repeated(np.flatnonzero(y == each), min(most, count * MOST_REPEATS), rng)
              for each, count in zip(classes, counts, strict=True)]  # fmt: skip
    return rng.permutation(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def in_blocks(x: Array, size: int = 1024) -> Iterable[Array]:
    """Yield samples in blocks, so that a model never runs on all at once."""
    for start in range(0, len(x), size):
        yield x[start : start + size]


def _repeated(places: Array, count: int, rng: np.random.Generator) -> Array:
    """Return ``count`` of the places: each as often as the others, or once more."""
    whole, rest = divmod(count, len(places))
    return np.concatenate([*[places] * whole, rng.choice(places, rest, replace=False)])


def _first_of_each(ids: Array) -> Array:
    return np.unique(_keys(ids), return_index=True)[1]


def _keys(ids: Array) -> Array:
    return np.ascontiguousarray(ids).view(f"V{ID_BYTES}").reshape(-1) if len(ids) else np.zeros(0, f"V{ID_BYTES}")


def rows_of(x: Any) -> Array:
    """Return samples as rows of an array: of numbers, or of objects where they are texts or mappings."""
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], (str, dict)):
        rows = np.empty(len(x), object)
        rows[:] = x
        return rows
    rows = plain(x)
    if rows.ndim == 0:
        raise Refused("bad-shape", field="x", expected="samples (n, ...)", got="one number")
    return rows.astype(object) if rows.dtype.kind in "US" else rows


def plain(values: Any) -> Array:
    """Return values as an array, also those of a framework's tensor on any device."""
    for call in ("detach", "cpu", "numpy"):
        if not isinstance(values, np.ndarray) and callable(found := getattr(values, call, None)):
            values = found()
    return np.asarray(values)


def indices_of(labels: Array, field: str, topic: str = "") -> Array:
    """Return labels as the indices of classes. Raise Refused where one is none."""
    whole = labels.astype(np.int64) if labels.dtype.kind in "iufb" else None
    strange = labels if whole is None else labels[(whole != labels) | (whole < 0) | (whole >= MAX_CLASSES)]
    if whole is None or len(strange):
        raise Refused("bad-label", topic=topic, field=field, expected=f"the index of a class, 0 to {MAX_CLASSES - 1}",
                      got=strange.reshape(-1)[0] if strange.size else labels.dtype,
                      hint="Name the classes in IncrementalLearning(classes=[...]) for labels that are "
                      "names.")  # fmt: skip
    return whole


def _ids(rows: Array) -> Array:
    """Return the SHA-256 of each of a script's own samples: of type, shape and numbers, or of the text."""
    head = f"{rows.dtype.str} {rows.shape[1:]} ".encode()
    if rows.dtype.kind == "O":
        digests = [hashlib.sha256(head + repr(each).encode()).digest() for each in rows]
    else:
        whole = np.ascontiguousarray(rows)
        digests = [hashlib.sha256(head + each.tobytes()).digest() for each in whole]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(rows), ID_BYTES)


def _form(x: Array) -> str:
    return "texts or columns" if x.dtype.kind == "O" else f"of shape {x.shape[1:]}"
