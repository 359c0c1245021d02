"""Create and update the streams that the registry declares, with bounds that the broker's disk has room for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract import registry
from heliograph.bus.contract.topics import Stream
from heliograph.bus.nats import mqtt_streams
from heliograph.bus.nats.connection import NatsConnection, NoRoom
from heliograph.bus.nats.room import SHRINKS, bound, has_room
from heliograph.bus.nats.stream_copying import replicate_by_copy
from heliograph.bus.nats.stream_making import ensure_stream, set_replicas
from heliograph.core.errors import NobodyAnswers
from heliograph.core.world import World

ENABLED_WITHIN = 5.0
"""Seconds in which JetStream answers an account that a login has just come to."""


async def prepare_streams(connection: NatsConnection, world: World) -> None:
    """Create missing streams and update those that differ. On a small disk all bounds in bytes are smaller.

    Raise NoRoom where a stream is missing and the disk has no room for it, TooFewServers where the cluster is too small
    for the replicas.
    """
    await _until_answered(connection, world)
    streams = registry.declared().streams()
    for stream in streams:
        if not stream.sure:
            await replicate_by_copy(connection, _config(connection, stream, -1))
    # at once: in a cluster that elects, each stream without a leader would cost a wait of its own
    asked = await asyncio.gather(*(_present(connection, stream) for stream in streams))
    present = {stream.name: found for stream, found in zip(streams, asked, strict=True) if found is not None}
    # those that reserve nothing come first: with its last stream the broker deletes a directory, a little later, which
    # the stream after the probe needs
    kept = await _ensure(connection, [each for each in streams if each.max_bytes <= 0], 1, present)
    bounded = [each for each in streams if each.max_bytes > 0]
    if connection.clustered:
        shrink, more = await _ensure_in_cluster(connection, bounded, present)
    else:
        shrink = await _affordable(connection, streams, present)
        more = await _ensure(connection, bounded, shrink, present)
    kept += more
    if shrink > 1:
        world.say(f"warning: the broker's disk has no room for the streams' bounds in bytes; 1/{shrink} of them apply")
    if kept:
        world.say(f"warning: the broker's disk has no room; streams stay as they are: {', '.join(kept)}. Free it, "
                  "and start the broker again.")  # fmt: skip
    if left := await set_replicas(connection):
        world.say(f"warning: one server alone keeps {', '.join(left)}: the servers' disks have no room for the copy "
                  "that replicas need. Free it, and start the coordinator again.")  # fmt: skip


async def _until_answered(connection: NatsConnection, world: World) -> None:
    """Wait until JetStream answers: nats-server may let an account's first login in before it has enabled it there."""
    until = world.monotonic() + ENABLED_WITHIN
    while True:
        try:
            await connection.ask("$JS.API.INFO")
            return
        except NobodyAnswers:
            if world.monotonic() >= until:
                raise
            await world.sleep(0.05)


async def _ensure(
    connection: NatsConnection, streams: list[Stream], shrink: int, present: Mapping[str, int]
) -> list[str]:
    """Create or update streams. Return the names of those that have to stay as they are."""
    return [
        stream.name for stream in streams
        if not await ensure_stream(connection, _config(connection, stream, _bound(stream, shrink, present)))
    ]  # fmt: skip


async def _ensure_in_cluster(
    connection: NatsConnection, streams: list[Stream], present: Mapping[str, int]
) -> tuple[int, list[str]]:
    """Create or update streams, the smallest first, from the first refusal on with smaller bounds. Return the divisor
    of the last one, and the names of those that have to stay as they are.

    Nothing is set aside to try: for ten seconds after its deletion a cluster's leader would count it as taken.
    """
    shrinks = iter(SHRINKS)
    shrink, kept = next(shrinks), []
    for stream in sorted(streams, key=lambda each: each.max_bytes):
        while True:
            try:
                kept += await _ensure(connection, [stream], shrink, present)
                break
            except NoRoom:
                if (smaller := next(shrinks, None)) is None:
                    raise
                shrink = smaller
    return shrink, kept


async def _affordable(connection: NatsConnection, streams: list[Stream], present: Mapping[str, int]) -> int:
    """Return the first divisor whose bounds the broker can set aside, those of its MQTT streams too."""
    mqtt = await mqtt_streams.present_bounds(connection)
    for shrink in SHRINKS:
        more = sum(
            max(0, _bound(stream, shrink, present) - max(0, present.get(stream.name, 0)))
            for stream in streams if stream.max_bytes > 0
        )  # fmt: skip
        if not more or await has_room(connection, more + mqtt_streams.set_aside(shrink, mqtt)):
            return shrink
    return SHRINKS[-1]


async def _present(connection: NatsConnection, stream: Stream) -> int | None:
    """Return the present bound in bytes; None where there is no such stream."""
    config = await connection.stream_config(connection.subjects.stream_name(stream.name))
    return int(config.get("max_bytes", -1)) if config is not None else None


def _bound(stream: Stream, shrink: int, present: Mapping[str, int]) -> int:
    return bound(stream.max_bytes, shrink, present.get(stream.name, -1)) if stream.max_bytes > 0 else -1


def _config(connection: NatsConnection, stream: Stream, max_bytes: int) -> dict[str, Any]:
    subjects = connection.subjects
    stored = [topic for topic in registry.declared().topics if topic.stream == stream]
    return {
        "name": subjects.stream_name(stream.name),
        "subjects": [subjects.subject(topic.filter()) for topic in stored],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 1 if stream.last_value else -1,
        "max_bytes": max_bytes,
        "max_msgs": stream.max_messages,
        "max_age": int(stream.max_age * 1e9),
        "allow_direct": True,
        "allow_atomic": stream.sure,
        **({} if stream.sure else {"persist_mode": "async"}),
        **({"deny_delete": True, "deny_purge": True} if stream.append_only else {}),
        "max_msg_size": max(topic.max_size for topic in stored) + 4096,
    }
