"""Read the devices' events from the journal's file: in another thread, by a connection of its own, and without keeping
any from being dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from heliograph.bus.contract.topics import BULK, TELEMETRY
from heliograph.core.world import World
from heliograph.edge_agent.event_checksum import checksum
from heliograph.edge_agent.journal_file import event_id, parts_of_id

MOST = 256
"""Events that are read at once."""


class DeviceEvent(NamedTuple):
    """An event of a device, with its number in the lane."""

    n: int
    address: str
    body: bytes


class JournalReader:
    """Raises sqlite3.Error where the file cannot be read."""

    def __init__(self, path: Path, edge: str, world: World) -> None:
        self._connection = world.database(path)
        self._prefix = address_prefix(edge)

    def close(self) -> None:
        self._connection.close()

    def through(self, after: int) -> tuple[int, bool]:
        """Return the number of the last event of the next batch behind ``after``, and whether the lane ends there."""
        bounds = (event_id(BULK, after), event_id(BULK + 1, 0))
        head = self._connection.execute("SELECT MAX(id) FROM events WHERE id > ? AND id < ?", bounds).fetchone()[0]
        if head is None:
            return after, True
        rows = self._connection.execute(
            "SELECT id FROM events WHERE id > ? AND id <= ? AND topic >= ? AND topic < ? ORDER BY id LIMIT ?",
            (event_id(BULK, after), head, self._prefix, f"{self._prefix}\U0010ffff", MOST),
        ).fetchall()
        last = rows[-1][0] if len(rows) == MOST else head
        return parts_of_id(last)[1], last == head

    def events(self, after: int, through: int) -> Iterator[DeviceEvent]:
        """Yield the devices' events behind ``after``, up to ``through``. A damaged one is passed over."""
        rows = self._connection.execute(
            "SELECT id, topic, body, crc FROM events WHERE id > ? AND id <= ? AND topic >= ? AND topic < ? ORDER BY id",
            (event_id(BULK, after), event_id(BULK, through), self._prefix, f"{self._prefix}\U0010ffff"),
        )
        for id, topic, body, crc in rows:
            if isinstance(topic, str) and isinstance(body, bytes) and checksum(topic, body) == crc:
                yield DeviceEvent(parts_of_id(id)[1], topic, body)


def address_prefix(edge: str) -> str:
    """Return what the addresses of all devices of an edge begin with."""
    return TELEMETRY.at(edge=edge, device="d")[:-1]
