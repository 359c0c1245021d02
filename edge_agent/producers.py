"""The producers on a node: their names in the journal, and a watch over what a producer that numbers its events must
not do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["worker", "device"]
Anomaly = Literal["gap", "began-again", "alternates", "borrowed", "begins-late", "skips", "late", "reused", "replaced",
                  "unreadable"]  # fmt: skip
WORKER: Kind = "worker"
DEVICE: Kind = "device"
WATCHED = 1024
"""Producers that are watched at the same time; the one that began first is forgotten."""
RETIRED = 4
"""Earlier incarnations of a producer that are remembered."""
SAID = 256
"""Lines about anomalies since the agent's start, at most."""
_MEANING: dict[Anomaly, str] = {
    "gap": "event {sequence} came, and not all before it; it is taken once they have been sent again",
    "began-again": "numbers begin again at 1 under incarnation {incarnation}: its events count as repeated, and are "
    "lost, until it begins a new incarnation",
    "alternates": "incarnation {incarnation} sends after another one has replaced it: two processes use one name, and "
    "the newer one is taken",
    "borrowed": "it uses incarnation {incarnation} of {other}",
    "begins-late": "its numbers begin at {sequence}, not at 1; its events are taken, the first marked as behind a gap",
    "skips": "event {sequence} came, and not all before it; it is taken, and marked as behind a gap",
    "late": "event {sequence} came after later ones; it is taken, and marked",
    "reused": "number {sequence} of incarnation {incarnation} stands for several events: it counts again from a number "
    "that it has used, or two devices have one name; they are taken, and marked. It has to begin a new incarnation at "
    "its start",
    "replaced": "incarnation {incarnation} sends after another one has replaced it: two devices have one name; the "
    "events of both are taken, and marked",
    "unreadable": "it sends events whose number or other attributes cannot be read; they are taken as data, and not "
    "acknowledged",
}


def key_of(kind: Kind, name: str) -> str:
    """Return a producer's key in the journal. A worker and a device of one name are two producers."""
    return f"{kind}/{name}"


def split_key(key: str) -> tuple[str, str]:
    """Return kind and name."""
    kind, _, name = key.partition("/")
    return kind, name


@dataclass(slots=True)
class _Watched:
    """A producer since the agent's start.

    Attributes:
        first: id of the first event of its incarnation.
        retired: earlier incarnations, oldest first.
    """

    incarnation: str
    first: str = ""
    retired: list[str] = field(default_factory=list)
    said: set[Anomaly] = field(default_factory=set)


class ProducerWatch:
    """Counts anomalies, and says each kind once for each producer.

    Args:
        say: called with a line.
        counted: called with each anomaly.

    Attributes:
        count: anomalies since the agent's start.
    """

    def __init__(self, say: Callable[[str], None], counted: Callable[[], None] = lambda: None) -> None:
        self._say = say
        self._counted = counted
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._owners: dict[str, str] = {}
        """Incarnation to the producer that has it now."""
        self._lines = 0
        self.count = 0

    def may_begin(self, producer: str, incarnation: str, known: str, event: str) -> bool:
        """Return whether an incarnation may begin with its event 1, whose id is ``event``; an earlier one may not.

        Args:
            known: the producer's present incarnation; empty where there is none.
        """
        watched = self._watch(producer, known or incarnation)
        if incarnation in watched.retired:
            self.note("alternates", producer, incarnation, 1)
            return False
        if incarnation != watched.incarnation:
            self._disown(producer, watched.incarnation)
            watched.retired = [*watched.retired, watched.incarnation][-RETIRED:]
            watched.incarnation = incarnation
        watched.first = event
        if self._owners.setdefault(incarnation, producer) != producer:
            self.note("borrowed", producer, incarnation, 1)
        return True

    def began(self, producer: str, incarnation: str) -> None:
        """Take note of a device's new incarnation, which is taken wherever its numbers begin."""
        watched = self._watch(producer, incarnation)
        if incarnation != watched.incarnation:
            self._disown(producer, watched.incarnation)
            watched.incarnation = incarnation
        if self._owners.setdefault(incarnation, producer) != producer:
            self.note("borrowed", producer, incarnation, 1)

    def out_of_order(self, producer: str, incarnation: str, sequence: int, known: tuple[str, int], event: str) -> None:
        """Take note of an event that is not the producer's next one; a repeated one is no anomaly.

        Args:
            known: the producer's present incarnation and its highest number.
            event: the event's id.
        """
        watched = self._watched.get(producer)
        if incarnation == known[0]:
            if sequence > known[1]:
                self.note("gap", producer, incarnation, sequence)
            elif sequence == 1 and watched is not None and watched.first not in ("", event):
                self.note("began-again", producer, incarnation, sequence)
        elif watched is not None and incarnation in watched.retired:
            self.note("alternates", producer, incarnation, sequence)
        else:
            self.note("gap", producer, incarnation, sequence)

    def _watch(self, producer: str, incarnation: str) -> _Watched:
        watched = self._watched.get(producer)
        if watched is None:
            watched = self._watched[producer] = _Watched(incarnation)
            if len(self._watched) > WATCHED:
                forgotten, was = self._watched.popitem(last=False)
                self._disown(forgotten, was.incarnation)
        return watched

    def _disown(self, producer: str, incarnation: str) -> None:
        if self._owners.get(incarnation) == producer:
            del self._owners[incarnation]

    def note(self, anomaly: Anomaly, producer: str, incarnation: str, sequence: int) -> None:
        """Count an anomaly, and say the first of its kind."""
        self.count += 1
        self._counted()
        if self._lines > SAID:
            return
        said = self._watch(producer, incarnation).said
        if anomaly in said:
            return
        said.add(anomaly)
        self._lines += 1
        other = self._owners.get(incarnation, "another producer")
        what = _MEANING[anomaly].format(sequence=sequence, incarnation=incarnation, other=_named(other))
        if self._lines > SAID:
            what += "; anomalies of further producers are only counted"
        self._say(f"{_named(producer)} on this node's broker: {what}")


def _named(producer: str) -> str:
    return producer.replace("/", " ", 1)
