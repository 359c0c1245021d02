"""What a node's mosquitto has dropped of what devices published, as it counts it itself below ``$SYS``."""

from __future__ import annotations

import asyncio
from typing import Any

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link import Link
from heliograph.bus.mqtt.connection import MqttConnection
from heliograph.cli.doctor.check import Finding
from heliograph.core.mosquitto_limits import LINES
from heliograph.core.world import World

VERSION, DROPPED = "$SYS/broker/version", "$SYS/broker/publish/messages/dropped"
WITHIN = 1.0
"""Seconds to wait for its counts, which it sends at once as retained messages; nats-server has none."""


async def counts(url: str, world: World) -> dict[str, str]:
    """Return what the broker says by these two topics; nothing where it does not say it, or not to this login."""
    found: dict[str, str] = {}
    complete = asyncio.Event()

    def heard(arrived: Any) -> None:
        if arrived.topic in (VERSION, DROPPED):
            found[arrived.topic] = bytes(arrived.payload or b"")[:80].decode("latin-1")
            if len(found) == 2:
                complete.set()

    async def subscribe() -> None:
        for topic in (VERSION, DROPPED):
            await connection.subscribe(topic, qos=0)

    connection = MqttConnection(ConnectionUrl.parse(url), world, Link(), heard, subscribe)
    await connection.open()
    try:
        async with asyncio.timeout(WITHIN):
            await complete.wait()
    except TimeoutError:
        return {}
    finally:
        await connection.close()
    return found


def finding(shown: str, found: dict[str, str]) -> Finding | None:
    """Return what the counts say; None for a broker that is no mosquitto, or tells nothing."""
    version, dropped = found.get(VERSION, ""), found.get(DROPPED, "")
    if not version.startswith("mosquitto") or not dropped.isdecimal():
        return None
    if dropped == "0":
        return Finding("good", f"{shown}: {version} has dropped nothing that devices published")
    return Finding(
        "warning", f"{shown}: {version} has dropped {dropped} messages since it started: a queue was full, that of the"
        " agent or of another client",
        f"Write into mosquitto.conf what lets them wait: {'; '.join(LINES[:3])}; 'heliograph device setup' has it all.",
    )  # fmt: skip
