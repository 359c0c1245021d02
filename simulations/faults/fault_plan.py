"""The plan of faults, drawn from a seed. Pure: the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from heliograph.core.names import CLOUD
from heliograph.core.world import seeded

Kind = Literal[
    "black-hole", "reset", "slow-link", "kill-broker", "kill-coordinator", "kill-agent", "kill-node-broker",
    "kill-worker", "full-disk", "wrong-clock", "restart-device",
]  # fmt: skip

COORDINATOR = "coordinator"
MEAN_GAP = 1.5
"""Mean seconds from one fault to the next. Most faults last longer, so that they overlap."""
REST = 2.0
"""Seconds without faults on a target's part after a fault; an agent needs one second to start."""


@dataclass(frozen=True)
class Fault:
    """One fault, in seconds from the run's start.

    Attributes:
        target: an edge, ``cloud``, ``coordinator``, or a server of the cloud's cluster, ``cloud-2`` for example.
        amount: latency of a slow link in seconds; largest file size on a full disk in bytes (below 0 every write
            fails); seconds by which a wrong clock is ahead.
    """

    kind: Kind
    target: str
    at: float
    duration: float
    amount: float = 0.0

    @property
    def end(self) -> float:
        return self.at + self.duration

    def __str__(self) -> str:
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.at:7.2f}-{self.end:6.2f} s  {self.kind} {self.target}{amount}"


@dataclass(frozen=True)
class _Shape:
    """The distribution of a kind of faults. Two faults on the same ``part`` of a target never overlap."""

    part: str
    where: Literal["edges", "nodes", "cloud", "coordinator", "clocks"]
    shortest: float
    longest: float
    amounts: tuple[float, float] = (0.0, 0.0)


_SHAPES: dict[Kind, _Shape] = {
    "black-hole": _Shape("link", "edges", 0.5, 6.0),
    "reset": _Shape("link", "edges", 0.1, 3.0),
    "slow-link": _Shape("link", "edges", 2.0, 8.0, (0.02, 0.3)),
    "kill-broker": _Shape("broker", "cloud", 0.0, 3.0),
    "kill-coordinator": _Shape("process", "coordinator", 0.0, 3.0),
    "kill-agent": _Shape("process", "nodes", 0.0, 4.0),
    "kill-node-broker": _Shape("node's broker", "edges", 0.0, 3.0),
    "kill-worker": _Shape("worker", "nodes", 0.0, 0.0),
    "full-disk": _Shape("process", "edges", 0.5, 4.0, (-50_000.0, 100_000.0)),
    "wrong-clock": _Shape("clock", "clocks", 1.0, 8.0, (-3600.0, 3600.0)),
    "restart-device": _Shape("device", "edges", 0.0, 2.0),
}
KINDS: tuple[Kind, ...] = tuple(_SHAPES)


SERVERS = ("cloud-2", "cloud-3", "cloud-4", "cloud-5")
"""The servers of the cloud's cluster but the first one."""
AWAY_LONGEST = 12.0
"""Longest time without a server of a cluster, in seconds: the others need up to 9 to elect leaders in its place."""
CATCH_UP = 6.0
"""Seconds without such a fault after one: the server catches up, and no other is to be lost meanwhile."""


def plan(seed: int | str, seconds: float, edges: Sequence[str], servers: int = 1) -> tuple[Fault, ...]:
    """Draw faults that begin and end within ``seconds``. Of a cluster's servers one is away at a time.

    Kinds are dealt like cards: a kind is repeated only after all kinds, so that a short run has all of them.
    """
    rng = seeded(f"faults/{seed}")
    found: list[Fault] = []
    free: dict[tuple[str, str], float] = {}
    cards: list[Kind] = []
    at = rng.expovariate(1 / MEAN_GAP)
    while at < seconds:
        if not cards:
            cards = rng.sample(KINDS, len(KINDS))
        kind = cards.pop()
        shape = _shape(kind, servers)
        target = rng.choice(_targets(shape, edges, servers))
        begin = max(at, free.get(part_of(kind, target), 0.0))
        duration, amount = rng.uniform(shape.shortest, shape.longest), rng.uniform(*shape.amounts)
        fault = Fault(kind, target, round(begin, 3), round(duration, 3), round(amount, 3))
        if fault.end <= seconds:
            found.append(fault)
            free[part_of(kind, target)] = fault.end + (CATCH_UP if shape.where == "cloud" and servers > 1 else REST)
        at += rng.expovariate(1 / MEAN_GAP)
    return tuple(sorted(found, key=lambda each: (each.at, each.kind, each.target)))


def part_of(kind: Kind, target: str) -> tuple[str, str]:
    """Return the part and the target of a fault; faults on the same part of a target do not overlap."""
    return _SHAPES[kind].part, CLOUD if target in SERVERS else target


def _shape(kind: Kind, servers: int) -> _Shape:
    shape = _SHAPES[kind]
    return replace(shape, longest=AWAY_LONGEST) if shape.where == "cloud" and servers > 1 else shape


def _targets(shape: _Shape, edges: Sequence[str], servers: int) -> list[str]:
    return {
        "edges": [*edges],
        "nodes": [CLOUD, *edges],
        "cloud": [CLOUD, *SERVERS[: servers - 1]],
        "coordinator": [COORDINATOR],
        "clocks": [COORDINATOR, *edges],
    }[shape.where]
