"""What a benchmark declares: what it is called, how it is measured, which figures come of it and what they shall be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

OURS = "Heliograph"

Samples = Mapping[str, Sequence[float]]
"""What one run of a measurement found, by key: one number, or one of each lap."""
Better = Literal["lower", "higher"]
Take = Literal["each", "p50", "p99", "max"]


class Unavailable(Exception):
    """What a benchmark needs cannot be had here; the message says why, in a few words."""


@dataclass(frozen=True)
class Metric:
    """One figure of a benchmark.

    Attributes:
        key: under which the measurement returns its samples, in ``unit``.
        title: for the table; up to 40 characters fit.
        unit: of the samples: ms, s, MB, MB/s, /s, ×.
        target: the most the median may be, the least where ``better`` is "higher"; None where nobody has set one.
        take: what counts of one run: ``each`` sample, or one number of them (``p50``, ``p99``, ``max``).
        name: in the history; the key, unless two figures are made of one key. Whoever renames it cuts its history.
        slack: in ``unit``; a smaller difference is never a regression, for figures close to nought.
        question: figures of several contestants that answer the same one are shown side by side.
        paired: whether each peer's figure over ours is a figure too, taken turn by turn; for what is better lower.
    """

    key: str
    title: str
    unit: str
    target: float | None = None
    better: Better = "lower"
    take: Take = "each"
    name: str = ""
    slack: float = 0.0
    question: str = ""
    paired: bool = False

    @property
    def label(self) -> str:
        return self.name or self.key


@dataclass(frozen=True)
class Benchmark:
    """One measurement and the figures made of it.

    Attributes:
        name: on the command line and in the history.
        group: what is measured in turns with each other; also a name on the command line.
        measure: runs once and returns samples; called in a process of its own, in the folder ``make bench`` runs in.
            What it raises is told as a failure, and what processes it leaves are ended.
        repeats: how often, each time in a fresh process.
        timeout: seconds for one run.
        by: who is measured.
        prepare: called once before the first run; raises Unavailable where the benchmark is to be passed over.
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
        """Whether it measures somebody else's work, which neither fails nor regresses here."""
        return self.by != OURS
