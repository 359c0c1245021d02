"""What closed rounds have told of each edge: the input of strategies that compare edges. Pure.

It follows from the close records alone, so that each coordinator decides the same. A status has no room for ten
thousand edges: it is stored beside the records.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from heliograph.bus.contract.payloads import Aggregation
from heliograph.core.errors import Refused

MOST_BYTES = 32 << 20
"""Bytes of an unpacked memory, at most: some hundred for each of a hundred thousand edges."""


class EdgeMemory(NamedTuple):
    """What the rounds have told of one edge.

    Attributes:
        asked: the newest round in which it was asked; 0 for none.
        counted: the newest round in which an update of it was counted; 0 for none.
        num_samples, loss, received_loss, seconds: those of its newest counted update; ``EdgeMeasure`` explains them.
    """

    asked: int = 0
    counted: int = 0
    num_samples: int = 0
    loss: float | None = None
    received_loss: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Memory:
    """The memory of a task. ``round`` is the newest round that it has."""

    round: int = 0
    edges: Mapping[str, EdgeMemory] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, edge: str) -> EdgeMemory:
        return self.edges.get(edge, _UNKNOWN)


_UNKNOWN = EdgeMemory()
NOTHING = Memory()
"""The memory of a task that has no closed round, or whose strategy needs none."""
_STORED = TypeAdapter(tuple[int, dict[str, EdgeMemory]])


def after(memory: Memory, closed: Aggregation) -> Memory:
    """Return the memory after a round has closed; the same object for a round that it has."""
    if closed.round <= memory.round:
        return memory
    edges = dict(memory.edges)
    for edge, told in closed.measured.items():
        known = edges.get(edge, _UNKNOWN)._replace(asked=closed.round)
        if told.num_samples is not None:
            known = EdgeMemory(closed.round, closed.round, told.num_samples, told.loss, told.received_loss,
                               told.seconds)  # fmt: skip
        edges[edge] = known
    return Memory(closed.round, edges)


def dump(memory: Memory) -> bytes:
    """Return a memory as it is stored: JSON, packed."""
    return zlib.compress(json.dumps([memory.round, dict(memory.edges)], separators=(",", ":"), sort_keys=True).encode())


def load(value: bytes) -> Memory:
    """Read a stored memory. Raise Refused if it is none."""
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(value, MOST_BYTES)
        if unpacking.unconsumed_tail:
            raise Refused("too-large", field="participation", expected=f"at most {MOST_BYTES} bytes", got="more")
        round, edges = _STORED.validate_json(text)
    except (zlib.error, ValidationError) as error:
        raise Refused("invalid", field="participation", expected="what rounds have told of edges",
                      got=type(error).__name__) from None  # fmt: skip
    return Memory(round, edges)
