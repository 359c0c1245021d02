"""A check of the doctor: the protocol, what it examines, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from heliograph.bus.nats.connection import NatsConnection
    from heliograph.client import AsyncClient
    from heliograph.core.world import World
    from heliograph.server import Server

Level = Literal["good", "note", "warning", "problem"]
"""``note``: something could not be examined, or is worth knowing; ``problem``: something does not work, or will not."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes:
        text: what is so, on one line.
        mend: what to do about it; empty where there is nothing to do.
    """

    level: Level
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Patient:
    """What is examined.

    Attributes:
        server: the cluster that was named or found; None where there is none.
        client: connected; None where the broker cannot be reached.
        failure: why there is no server or no client.
        node: URL of the node's MQTT broker; empty where none was named.
    """

    world: World
    server: Server | None = None
    client: AsyncClient | None = None
    failure: Exception | None = None
    node: str = ""

    @property
    def nats(self) -> NatsConnection | None:
        """The connection to the broker; None over MQTT, where there is no JetStream."""
        from heliograph.bus.nats.bus import NatsBus

        bus = self.client.bus if self.client is not None else None
        return bus.connection if isinstance(bus, NatsBus) else None

    async def jetstream(self, subject: str) -> dict[str, Any] | None:
        """Return the answer of JetStream's API; None over MQTT, and where this login may not ask."""
        from heliograph.core.errors import Forbidden

        if self.nats is None:
            return None
        try:
            return await self.nats.ask(f"$JS.API.{subject}")
        except Forbidden:
            return None

    async def noted(self, key: str, field: str) -> str:
        """Return a field of a document that coordinators keep beside their lease; empty where this login may not read
        it, or there is none."""
        import json

        from heliograph.bus.contract.buckets import COORDINATOR
        from heliograph.bus.nats.key_value import NatsKeyValue
        from heliograph.core.errors import HeliographError

        if self.nats is None:
            return ""
        bucket = NatsKeyValue(self.nats, self.nats.subjects.stream_name(COORDINATOR))  # it may not be there: make none
        try:
            entry = await bucket.get(key)
            return str(json.loads(entry.value)[field]) if entry is not None else ""
        except (HeliographError, ValueError, KeyError, TypeError):
            return ""

    async def edges(self) -> list[dict[str, Any]]:
        """Return the cluster's edges."""
        assert self.client is not None
        return await self.client.edges.list()


class Check(Protocol):
    """One check. It raises no error for what it finds; one that it raises is itself a problem.

    Attributes:
        name: one word.
        what: what it examines, for ``--list``.
        needs_cluster: whether it is left out where the broker cannot be reached.
    """

    name: str
    what: str
    needs_cluster: bool

    async def examine(self, patient: Patient) -> list[Finding]: ...


def good(text: str) -> Finding:
    return Finding("good", text)


def worst(findings: Iterator[Finding]) -> Level:
    """Return the gravest level."""
    levels: tuple[Level, ...] = ("good", "note", "warning", "problem")
    return max((each.level for each in findings), key=levels.index, default="good")
