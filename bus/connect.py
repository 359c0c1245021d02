"""Open a bus by its URL: one interface over nats://, mqtt:// and memory://."""

from __future__ import annotations

from heliograph.bus.connection_url import MQTT, NATS, ConnectionUrl
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.transport import Bus
from heliograph.core.world import World


def connect(
    url: str, *, root: str = DEFAULT_ROOT, world: World | None = None, name: str = "heliograph", inbox: str = ""
) -> Bus:
    """Return the bus at ``url``; open it with ``async with``.

    Raise Refused if the URL is invalid, or leads to another machine without TLS.

    Args:
        url: ``nats://[user:password@]host:port``, ``mqtt://…`` or ``memory://name``; with TLS ``tls://``, ``mqtts://``.
            See ``bus.connection_url``.
        root: first words of every topic, for several tenants on one broker.
        name: name of the connection at the broker, a DNS label.
        inbox: NATS only: prefix of the subjects that receive answers; by default that of the URL's login.
    """
    world = world or World()
    if world.transport is not None:
        bus: Bus = world.transport(url, root, world, name, inbox)
        return bus
    parsed = ConnectionUrl.parse(url)
    parsed.require_protection()
    scheme = parsed.scheme
    if scheme in NATS:
        from heliograph.bus.nats.bus import NatsBus

        return NatsBus(url, root, world, name, inbox)
    if scheme in MQTT:
        from heliograph.bus.mqtt.bus import MqttBus

        return MqttBus(url, root, world, name)
    from heliograph.bus.memory.bus import MemoryBus

    return MemoryBus(url, root, world, name)
