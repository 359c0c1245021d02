"""Bounds of streams that the broker's disk has room for.

nats-server sets the ``max_bytes`` of every stream aside, 75 % of the free disk at most unless its configuration says
how much. Once too much is set aside, it neither creates nor changes any stream.
"""

from __future__ import annotations

from heliograph.bus.nats.connection import NatsConnection, NoRoom
from heliograph.bus.nats.stream_making import ensure_stream

SHRINKS = tuple(1 << power for power in range(11))
"""Divisors of the bounds in bytes; the first that the disk has room for is taken."""
SPARE = 1 << 20
"""Bytes that are left for streams and buckets that reserve none."""
_PROBE = "ROOM"


def bound(declared: int, shrink: int, present: int) -> int:
    """Return a stream's bound in bytes: a smaller one only where the stream is not there yet, or has more than is
    declared.

    Args:
        present: its present bound; 0 or less where it has none.
    """
    return max(declared // shrink, min(declared, present))


async def has_room(connection: NatsConnection, more: int) -> bool:
    """Return whether the broker can set ``more`` bytes aside, and ``SPARE``."""
    name = connection.subjects.stream_name(_PROBE)
    await connection.ask(f"$JS.API.STREAM.DELETE.{name}")  # an attempt that was cut off
    try:
        await ensure_stream(connection, {"name": name, "storage": "file", "max_bytes": more + SPARE})
    except NoRoom:
        return False
    await connection.ask(f"$JS.API.STREAM.DELETE.{name}")
    return True
