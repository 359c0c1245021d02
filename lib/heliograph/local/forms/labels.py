"""The classes, or other values, of the samples in one column, collected while a file is read."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused, shorten
from heliograph.edge_agent.datasets.csv_look import MISSING, is_number

if TYPE_CHECKING:
    import numpy as np

    Codes = np.ndarray[Any, Any]

LABELS = ("y", "label", "labels", "target", "targets", "class", "cls")
"""Names tried for the array or column of labels, in any case; also with ``train`` at either end."""
MAX_VALUES = 2_000_000
"""Different values of one column that are told apart."""


class _Numbered(dict[Any, int]):
    """Values, numbered as they come."""

    def __missing__(self, value: Any) -> int:
        if len(self) >= MAX_VALUES:
            return MAX_VALUES
        self[value] = number = len(self)
        return number


class Column:
    """The values of one column, as they come: a number for each sample and a table of the different values."""

    def __init__(self, name: str, decimal: str = ".") -> None:
        self.name = name
        self._numbers = array("i")
        self._table = _Numbered()

    def add(self, values: Iterable[Any]) -> None:
        """Add the values of the next samples: texts as bytes, numbers, or None for a missing one."""
        self._numbers.extend(map(self._table.__getitem__, values))

    def values(self) -> Values:
        """Return the values: equal numbers are one value, ``1`` and ``1.0``; codes follow the values' order."""
        import numpy as np

        texts = [_plain(value) for value in self._table]
        numeric = all(text is None or isinstance(text, (bool, int, float)) or is_number(text, ";") for text in texts)
        plain = [None if text is None else _number(text) if numeric else str(text) for text in texts]
        plain = [None if isinstance(value, float) and math.isnan(value) else value for value in plain]
        different = sorted({value for value in plain if value is not None})
        place = {value: number for number, value in enumerate(different)}
        codes = np.array([-1 if value is None else place[value] for value in plain] + [-1], np.int32)
        numbers = np.frombuffer(self._numbers, np.int32) if len(self._numbers) else np.empty(0, np.int32)
        return Values(self.name, codes[numbers], different, len(self._table) >= MAX_VALUES)


@dataclass(frozen=True)
class Values:
    """A column whose values are numbered.

    Attributes:
        codes: for each sample the place of its value in ``different``, int32; -1 where it is missing.
        different: the different values, sorted: all numbers, or all text.
        endless: whether there are more different values than are told apart.
    """

    name: str
    codes: Codes
    different: Sequence[Any] = field(repr=False)
    endless: bool = False

    @property
    def missing(self) -> int:
        return int((self.codes < 0).sum())

    def fault(self) -> str:
        """Return why these values are no classes; empty if they are."""
        fraction = next((each for each in self.different if isinstance(each, float) and not each.is_integer()), None)
        if fraction is not None:
            return f"numbers with fractions, such as {fraction:g}"
        if self.missing and not self.endless:
            return f"{self.missing} missing of {len(self.codes)}"
        if self.endless or (len(self.different) > max(20, len(self.codes) // 2)):
            return f"{len(self.different)} different values in {len(self.codes)} samples"
        return ""

    def require_classes(self, source: str, split: str) -> None:
        """Raise Refused unless the values are classes, as a split by classes needs them."""
        if fault := self.fault():
            hint = ("Give these samples a label, or delete them." if self.missing and fault.endswith(
                    str(len(self.codes))) else "Name a column of classes with --label, or split with iid or by-size.")
            raise Refused("no-classes", topic=source, field=f"column {shorten(self.name)}", got=fault, hint=hint,
                          expected=f"a class for each sample, for --split {split}")  # fmt: skip


def named(names: Sequence[str], wanted: str, source: str, option: str = "--label") -> str:
    """Return the name of the column that an option names, by its name or its number, from 0 or from the end, -1."""
    if wanted in names:
        return wanted
    if wanted.lstrip("-").isdigit() and -len(names) <= (place := int(wanted[:9])) < len(names):
        return names[place]
    raise Refused("no-such-column", topic=source, field=option, expected=f"one of {_shown(names)}", got=wanted,
                  hint="A number counts from 0; -1 is the last.")  # fmt: skip


def usual(names: Sequence[str], required: bool, source: str) -> str:
    """Return the name of the column that is called as labels usually are; empty where none is and none is required.

    Args:
        names: names of the columns that may hold labels.
    """
    found = next((name for label in LABELS for name in names if name.lower() == label), "")
    found = found or next((name for name in names if _without_train(name) in LABELS), "")
    found = found or ("arr_1" if set(names) <= {"arr_0", "arr_1"} and "arr_1" in names else "")
    if found or not required:
        return found
    hint = "Name the array or column of classes with --label (a number counts from 0; -1 is the last), or split iid."
    raise Refused("no-labels", topic=source, field="--label", got=_shown(names), hint=hint,
                  expected=f"an array or column called {', '.join(LABELS)}")  # fmt: skip


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(shorten, names[:20])) + (", …" if len(names) > 20 else "")


def _without_train(name: str) -> str:
    return name.lower().replace("training", "train").removeprefix("train").removesuffix("train").strip("_-. ")


def _plain(value: Any) -> Any:
    """Return a value as Python has it; None where it is missing."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return None if isinstance(value, str) and value in MISSING else value


def _number(value: Any) -> float:
    return float(value.replace(".", "").replace(",", ".")) if isinstance(value, str) and "," in value else float(value)
