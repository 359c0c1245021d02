"""Telemetry: the declared instruments of Heliograph, and the object of ``World`` that records their measurements.

Names follow OpenTelemetry's conventions for metrics: dotted, lower case, from the general to the particular, without
the unit, which is separate (UCUM: ``s``, ``By``, ``{event}``). A component binds its instruments in its constructor and
calls them where an event occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument: a stable name, a unit, and a sentence for dashboards."""

    name: str
    unit: str
    text: str


class Counter(Instrument):
    """A sum that only grows."""


class Histogram(Instrument):
    """A distribution of values."""


class Span(Instrument):
    """The duration of an operation, and whether it fails."""


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
"""All instruments. Their names are as stable as topics."""

Add = Callable[[float], None]


class Telemetry:
    """A recorder that records nothing; a subclass overrides all three methods.

    Labels are few and have few values: never ids.
    """

    def counter(self, instrument: Counter, **labels: str) -> Add:
        """Return the function that adds to a counter."""
        return _nothing

    def histogram(self, instrument: Histogram, **labels: str) -> Add:
        """Return the function that records a value."""
        return _nothing

    def span(self, instrument: Span, **labels: str) -> Callable[[], AbstractContextManager[object]]:
        """Return the function that makes the context manager of an operation; an error that leaves it is a failure."""
        return _no_span


def _nothing(amount: float) -> None:
    pass


_NO_SPAN = nullcontext()


def _no_span() -> AbstractContextManager[object]:
    return _NO_SPAN


NO_TELEMETRY = Telemetry()
