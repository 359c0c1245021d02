"""``device topics``: what devices publish at a node's broker, and what a mapping makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.usage import misused

if TYPE_CHECKING:
    from heliograph.edge_agent.devices.mapping import DeviceMapping

MOST = 1000
"""Topics that are shown, at most."""
_PATIENCE = 5.0
_VARIABLE = "HELIOGRAPH_NODE"


def topics(
    broker: Annotated[
        str | None,
        typer.Option(metavar="URL|FILE", help="mqtt:// URL of the devices' broker, or a file with it; its login reads"
                     " all topics. Default: HELIOGRAPH_NODE."),
    ] = None,
    devices_map: Annotated[
        Path | None,
        typer.Option("--devices-map", metavar="FILE", envvar="HELIOGRAPH_DEVICES_MAP", help="The mapping, as the agent"
                     " takes it. Default: none."),
    ] = None,
    edge: Annotated[
        str, typer.Option(metavar="NAME", envvar="HELIOGRAPH_NAME", help="The edge's name.")
    ] = "edge-1",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to listen.")] = 10.0,
) -> None:  # fmt: skip
    import asyncio

    from heliograph.cli.identity.device_commands import broker_url
    from heliograph.core.names import LABEL_RULE, is_label
    from heliograph.edge_agent.devices.mapping import DeviceMapping
    from heliograph.edge_agent.devices.mapping_file import read_mapping

    if not is_label(edge):
        raise misused("--edge", expected=LABEL_RULE, got=edge)
    url = broker_url(broker, _VARIABLE)
    mapping = read_mapping(devices_map, edge) if devices_map is not None else DeviceMapping("heliograph", edge)
    asyncio.run(_listen(url, mapping, seconds))


async def _listen(url: str, mapping: DeviceMapping, seconds: float) -> None:
    import asyncio

    from heliograph.bus.connection_url import ConnectionUrl
    from heliograph.bus.link import Link
    from heliograph.bus.mqtt.connection import FAILURE, MqttConnection
    from heliograph.bus.mqtt.library_client import Arrived
    from heliograph.cli.printing.output import printable, say
    from heliograph.core.errors import Refused
    from heliograph.core.world import World

    parsed = ConnectionUrl.parse(url, "--broker")
    parsed.require_protection()
    seen: dict[str, int] = {"taken": 0, "passed over": 0, "without a rule": 0}
    known: set[str] = set()

    def heard(arrived: Arrived) -> None:
        if arrived.topic in known or len(known) >= MOST:
            return
        known.add(arrived.topic)
        kind, what = fate(mapping, arrived.topic)
        seen[kind] += 1
        say(f"{printable(arrived.topic)}: {what}")

    async def subscribe() -> None:
        for pattern in ("#", *(each for each in mapping.filters if each.startswith("$"))):
            if await connection.subscribe(pattern, qos=0) >= FAILURE:
                refused.set()

    refused, link, world = asyncio.Event(), Link(), World()
    connection = MqttConnection(parsed, world, link, heard, subscribe)
    await connection.open()
    try:
        await link.wait_up(_PATIENCE)
        if refused.is_set():
            raise Refused("forbidden", topic=parsed.shown, expected="a login that reads all topics", got="another",
                          hint="Give the agent's by --broker.")  # fmt: skip
        await world.sleep(seconds)
    finally:
        await connection.close()
    counts = ", ".join(f"{number} {kind}" for kind, number in seen.items())
    more = "; further ones are not shown" if len(known) >= MOST else ""
    say(f"{len(known)} topics in {seconds:g} s: {counts}{more}")


def fate(mapping: DeviceMapping, topic: str) -> tuple[str, str]:
    """Return the kind of what becomes of a topic's messages, and a sentence about it."""
    from heliograph.edge_agent.devices.presets import preset_of

    placed = mapping.place(topic)
    if placed is not None:
        kept = f", {placed.content_type}" if placed.content_type else ""
        return "taken", f"device {placed.device}, event {placed.event}{kept}"
    if mapping.passes_over(topic):
        return "passed over", "passed over"
    preset = preset_of(topic)
    does = f'; preset = "{preset}" does' if preset else ""
    return "without a rule", f"no rule takes it{does}"
