"""What every form of data set offers to be split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local.forms.labels import Column, Values, named, usual

if TYPE_CHECKING:
    import numpy as np

    Owners = np.ndarray[Any, Any]
    """For each training sample the place of its part in a list, int32; -1: in none."""


@dataclass
class Request:
    """What is wanted of a file beside its rows.

    Attributes:
        label: name of the column of classes; empty: usual names are tried.
        group: name of another column whose values are collected; empty for none.
        required: whether labels are needed.
        header: whether a csv's first line names the columns; None: its cells decide.
        progress: called with a step and the bytes that it has taken.
    """

    source: str
    label: str = ""
    group: str = ""
    required: bool = False
    header: Header | None = None
    progress: Callable[[str, int], None] = lambda step, done: None
    label_column: Column | None = None
    group_column: Column | None = None
    _chosen: list[tuple[str, Column]] | None = field(default=None, repr=False)

    def columns(self, names: Sequence[str]) -> list[tuple[str, Column]]:
        """Return the columns to collect, by name; the same ones for each file of a directory.

        Raise Refused if one is missing.
        """
        if self._chosen is None:
            self._chosen = []
            label = (
                named(names, self.label, self.source) if self.label else usual(names, self.required, self.source)
            )
            if label:
                self.label_column = Column(label)
                self._chosen.append((label, self.label_column))
            if self.group:
                group = named(names, self.group, self.source, "--split by-column")
                self.group_column = Column(group)
                self._chosen.append((group, self.group_column))
        if missing := next((name for name, _ in self._chosen if name not in names), ""):
            raise HeliographError(f"{self.source}: holds files of different columns, one without {missing}; "
                                  "give all the same columns in the same order")  # fmt: skip
        return self._chosen

    def forget(self, column: Column) -> bool:
        """Forget labels that are no classes after all; return False where they are needed."""
        if self.required or self.label or column is not self.label_column:
            return False
        self.label_column = None
        return True

    def labels(self) -> Values | None:
        return self.label_column.values() if self.label_column is not None else None

    def groups(self) -> Values | None:
        return self.group_column.values() if self.group_column is not None else None


class Form(Protocol):
    """An opened data set.

    Attributes:
        samples: number of training samples.
        said: what was found by looking, for people; may be empty.
        columns: names of the columns.
        ending: end of the names of its parts: ``.csv.gz``; empty for a directory.
        has_test: whether a test part of its own lies in it, as in ``x_test``, or a directory ``test``.
    """

    samples: int
    said: str
    columns: Sequence[str]
    ending: str
    has_test: bool

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        """Write a part for each target. Each gets the source's own test part too, if there is one."""
        ...

    def write_test(self, target: Path) -> None:
        """Write the source's own test part, in the place of the training samples too."""
        ...
