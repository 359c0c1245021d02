"""Streams in which nats-server stores what MQTT clients make it keep: bounds for them, and retained requests removed.

nats-server keeps a retained message for ever, sets none of these streams a limit, and no permission forbids a client to
retain what it may publish. It reads a stream's limits only from the stream, and keeps them over its restarts.
"""

from __future__ import annotations

from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.nats.connection import NatsConnection, has_no_stream
from heliograph.core.errors import HeliographError

MIB = 1024 * 1024
RETAINED = "$MQTT_rmsgs"
BOUNDS = {RETAINED: 64 * MIB, "$MQTT_msgs": 256 * MIB, "$MQTT_sess": 16 * MIB, "$MQTT_out": 16 * MIB,
          "$MQTT_qos2in": 16 * MIB}  # fmt: skip
"""Bytes of each stream, beyond which it drops its oldest messages: retained ones, ones under way at QoS 1, sessions,
and acknowledgements at QoS 2. The status of ten thousand edges takes 30 MiB; the broker sets all of it aside."""


async def bound_mqtt_streams(connection: NatsConnection) -> bool:
    """Set the bounds; return False while the broker has not made the streams: it does for its first MQTT client."""
    for name, most in BOUNDS.items():
        info = await connection.ask(f"$JS.API.STREAM.INFO.{name}")
        if has_no_stream(info):
            return False
        config = info.get("config", {})
        if not info.get("error") and config.get("max_bytes") != most:
            info = await connection.ask(f"$JS.API.STREAM.UPDATE.{name}", {**config, "max_bytes": most})
        if "error" in info:
            raise HeliographError(f"stream {name}: {info['error'].get('description')}")
    return True


async def purge_retained(connection: NatsConnection, subjects: Subjects) -> int:
    """Delete the retained messages below the root that are on no retained topic; return their number."""
    kept = {topic.words[0] for topic in declared().topics if topic.retained}
    deleted = 0  # also while the stream is missing: before the broker's first MQTT client
    for word in sorted({topic.words[0] for topic in declared().topics} - kept):
        below = {"filter": f"$MQTT.rmsgs.{subjects.subject(f'{word}/#')}"}
        answer = await connection.ask(f"$JS.API.STREAM.PURGE.{RETAINED}", below)
        deleted += int(answer.get("purged", 0))
    return deleted
