"""``connect(url)``: one interface over nats://, mqtt:// and memory://."""

from __future__ import annotations

from urllib.parse import urlsplit

from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.world import World


def connect(
    url: str, *, root: str = DEFAULT_ROOT, world: World | None = None, name: str = "heliograph", inbox: str = ""
) -> Bus:
    """The bus at ``url``; open it with ``async with``.

    Args:
        url: ``nats://[user:password@]host:port``, ``mqtt://…`` or ``memory://name``.
        root: first words of every topic, for several tenants on one broker.
        name: a DNS label by which the broker knows the connection.
        inbox: NATS only: prefix of the subjects that answers come on.
    """
    world = world or World()
    if world.transport is not None:
        bus: Bus = world.transport(url, root, world, name, inbox)
        return bus
    scheme = urlsplit(url).scheme
    try:
        _ = urlsplit(url).port
    except ValueError:
        got = urlsplit(url).netloc.rpartition("@")[2]
        raise Refused("invalid", field="url", expected="a port from 0 to 65535", got=got) from None
    if scheme in ("nats", "tls", "ws", "wss"):
        from heliograph.bus.nats.bus import NatsBus

        return NatsBus(url, root, world, name, inbox)
    if scheme == "mqtt":
        from heliograph.bus.mqtt.bus import MqttBus

        return MqttBus(url, root, world, name)
    if scheme == "memory":
        from heliograph.bus.memory.bus import MemoryBus

        return MemoryBus(url, root, world, name)
    raise Refused("invalid", field="url", expected="nats://, mqtt:// or memory://", got=scheme or url)
