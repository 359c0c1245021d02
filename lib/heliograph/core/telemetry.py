"""Telemetry: what Heliograph measures of itself, declared once, and the object that takes it. ``World`` hands it out.

Names follow OpenTelemetry's conventions for metrics: dotted, lower case, from the general to the particular, the unit
beside the name and never in it (UCUM: ``s``, ``By``, ``{event}``). A component binds its instruments when it is made
and calls them where something happens; nothing else in it knows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is measured: a name that stays, its unit, and a sentence for whoever reads it on a dashboard."""

    name: str
    unit: str
    text: str


class Counter(Instrument):
    """A sum that only grows."""


class Histogram(Instrument):
    """A distribution of values."""


class Span(Instrument):
    """How long something takes, and whether it fails."""


EVENTS_PUBLISHED = Counter("heliograph.bus.events", "{event}", "Messages that a bus published, each batch by its size.")
BYTES_PUBLISHED = Counter("heliograph.bus.bytes", "By", "Bytes of their bodies.")
JOURNAL_COMMITS = Counter("heliograph.journal.commits", "{commit}", "Commits of a node's journal, each synced.")
JOURNAL_EVENTS = Histogram("heliograph.journal.commit.events", "{event}", "Events that shared a commit.")
WORKERS_LAUNCHED = Counter("heliograph.worker.launches", "{launch}", "Workers that an agent launched, by role.")
ROUNDS_CLOSED = Counter("heliograph.round.closed", "{round}", "Rounds whose close the coordinator recorded.")
OFFLOAD = Span("heliograph.inference.offload", "s", "From a hard sample's request to the answer of the cloud's model.")

INSTRUMENTS: tuple[Instrument, ...] = (
    EVENTS_PUBLISHED, BYTES_PUBLISHED, JOURNAL_COMMITS, JOURNAL_EVENTS, WORKERS_LAUNCHED, ROUNDS_CLOSED, OFFLOAD,
)  # fmt: skip
"""All of them. A name is as stable as a topic."""

Add = Callable[[float], None]


class Telemetry:
    """Takes nothing. One that does overrides all three; labels are few and have few values, never ids."""

    def counter(self, instrument: Counter, **labels: str) -> Add:
        """What adds to the counter."""
        return _nothing

    def histogram(self, instrument: Histogram, **labels: str) -> Add:
        """What records a value."""
        return _nothing

    def span(self, instrument: Span, **labels: str) -> Callable[[], AbstractContextManager[object]]:
        """What opens a context manager around the work that is measured; an error that leaves it is a failure."""
        return _no_span


def _nothing(amount: float) -> None:
    pass


_NO_SPAN = nullcontext()


def _no_span() -> AbstractContextManager[object]:
    return _NO_SPAN


NO_TELEMETRY = Telemetry()
