"""Streams in which nats-server stores what MQTT clients make it keep: bounds for them, and retained requests removed.

nats-server keeps a retained message for ever, sets none of these streams a limit, and no permission forbids a client to
retain what it may publish. It reads a stream's limits only from the stream, and keeps them over its restarts.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.nats.connection import NatsConnection, NoRoom, has_no_room
from heliograph.bus.nats.room import SHRINKS, bound
from heliograph.bus.nats.stream_making import refusal

MIB = 1024 * 1024
RETAINED = "$MQTT_rmsgs"
BOUNDS = {RETAINED: 64 * MIB, "$MQTT_msgs": 256 * MIB, "$MQTT_sess": 16 * MIB, "$MQTT_out": 16 * MIB,
          "$MQTT_qos2in": 16 * MIB}  # fmt: skip
"""Bytes of each stream, beyond which it drops its oldest messages: retained ones, ones under way at QoS 1, sessions,
and acknowledgements at QoS 2. The status of ten thousand edges takes 30 MiB; the broker sets all of it aside."""
MOST_SHRUNK = 64
"""Largest divisor of these bounds on a small disk: each stream has to hold some of the largest messages."""
LEAST = sum(BOUNDS.values()) // MOST_SHRUNK
"""Bytes that they take on the smallest disk."""


async def bound_mqtt_streams(connection: NatsConnection) -> bool:
    """Set the bounds, smaller ones on a small disk, and the replicas. Return False while the broker has not made the
    streams: it does for its first MQTT client.

    Raise NoRoom where the disk has no room for the smallest ones.
    """
    present = await present_bounds(connection)
    if present.keys() != BOUNDS.keys():
        return False
    for shrink in SHRINKS:
        if shrink <= MOST_SHRUNK and all([await _set(connection, name, shrink, present) for name in BOUNDS]):
            return True
    raise NoRoom(f"the broker's disk has no room for {LEAST} bytes that MQTT clients may make it keep")


async def present_bounds(connection: NatsConnection) -> dict[str, int]:
    """Return the bounds that the streams have now by name, -1 for none; without streams that are not made yet."""
    found = {}
    for name in BOUNDS:
        config = await connection.stream_config(name)
        if config is not None:
            found[name] = int(config.get("max_bytes", -1))
    return found


def set_aside(shrink: int, present: Mapping[str, int]) -> int:
    """Return the bytes that the bounds set aside beside those that they set aside at present."""
    now = {name: max(0, present.get(name, 0)) for name in BOUNDS}
    return sum(bound(most, min(shrink, MOST_SHRUNK), now[name]) - now[name] for name, most in BOUNDS.items())


async def purge_retained(connection: NatsConnection, subjects: Subjects) -> int:
    """Delete the retained messages below the root that are on no retained topic; return their number."""
    kept = {topic.words[0] for topic in declared().topics if topic.retained}
    deleted = 0  # also while the stream is missing: before the broker's first MQTT client
    for word in sorted({topic.words[0] for topic in declared().topics} - kept):
        below = {"filter": f"$MQTT.rmsgs.{subjects.subject(f'{word}/#')}"}
        answer = await connection.ask(f"$JS.API.STREAM.PURGE.{RETAINED}", below)
        deleted += int(answer.get("purged", 0))
    return deleted


async def _set(connection: NatsConnection, name: str, shrink: int, present: Mapping[str, int]) -> bool:
    """Set one stream's bound and replicas; return False where the disk has no room for it."""
    config = await connection.stream_config(name) or {}
    most = bound(BOUNDS[name], shrink, present[name])
    replicas = connection.replicas or int(config.get("num_replicas", 1))
    wanted = {**config, "max_bytes": most, "num_replicas": replicas}
    if config == wanted:
        return True
    answer = await connection.ask(f"$JS.API.STREAM.UPDATE.{name}", wanted)
    if "error" in answer and not has_no_room(answer):
        raise refusal(answer, f"stream {name}", replicas)
    return "error" not in answer
