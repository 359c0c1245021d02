"""The declaration of a benchmark: its name, its measurement, its figures and their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

OURS = "Heliograph"

Samples = Mapping[str, Sequence[float]]
"""The numbers measured in one run, by key: a single one, or one for each lap."""
Better = Literal["lower", "higher"]
Statistic = Literal["each", "p50", "p99", "max"]


class Unavailable(Exception):
    """A benchmark cannot run on this machine; the message says why in a few words."""


@dataclass(frozen=True)
class Metric:
    """One figure of a benchmark.

    Attributes:
        key: key of its samples in the measurement's result; they are in ``unit``.
        title: title in the table, up to 40 characters.
        unit: unit of the samples: ms, s, MB, MB/s, /s, ×.
        target: largest permitted median (smallest if ``better`` is "higher"); None without a target.
        statistic: statistic of one run: ``each`` sample, or one number (``p50``, ``p99``, ``max``).
        name: name in the history; needed if two figures come from one key. Renaming it cuts the figure's history.
        slack: smallest difference, in ``unit``, that can be a regression; for figures close to zero.
        question: question that this figure answers. Contestants with the same question are shown side by side.
        known: why the target cannot be reached yet; a miss is shown with it, and fails nothing.
        paired: whether each peer's figure over ours, turn by turn, is a figure too. Only for figures that are better
            lower.
    """

    key: str
    title: str
    unit: str
    target: float | None = None
    better: Better = "lower"
    statistic: Statistic = "each"
    name: str = ""
    slack: float = 0.0
    question: str = ""
    known: str = ""
    paired: bool = False

    @property
    def label(self) -> str:
        return self.name or self.key


@dataclass(frozen=True)
class Benchmark:
    """One measurement and its figures.

    Attributes:
        name: name on the command line and in the history.
        group: benchmarks of a group take turns; also a name on the command line.
        measure: function that measures once and returns samples. It runs in a process of its own, in the folder of
            ``make bench``. An exception is reported as a failure; processes left behind are ended.
        repeats: number of runs, each in a fresh process.
        timeout: longest duration of one run, in seconds.
        by: contestant that is measured.
        prepare: function called once before the first run; raises Unavailable to have the benchmark skipped.
    """

    name: str
    group: str
    measure: Callable[[], Samples]
    metrics: tuple[Metric, ...]
    repeats: int = 3
    timeout: float = 300.0
    by: str = OURS
    prepare: Callable[[], None] | None = None

    @property
    def peer(self) -> bool:
        """Return whether it measures another project. A peer neither fails nor regresses here."""
        return self.by != OURS
