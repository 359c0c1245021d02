"""The ports of a local cluster's brokers: fixed ones, those of its last start, and who holds one that is taken."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.local.nats_server import Broker

Ports = Mapping[str, int]
"""Port by the name of the attribute of ``Broker``."""
NAMES = ("port", "mqtt_port", "websocket_port")
DOOR_AT = 3
"""Distance of mosquitto's port, if it is the door, from the cluster's first port."""
EDGES_FROM = 10
"""Distance of the first edge's ports from the cluster's first port."""
_LISTENS = "0A"


def fixed_ports(first: int, edges: Iterable[str]) -> tuple[Ports, dict[str, Ports]]:
    """Return the ports of the cloud's broker and those of each edge's: NATS, MQTT and WebSocket from ``first`` on, and
    two for each edge, NATS and MQTT, from ``first + EDGES_FROM`` on."""
    below: dict[str, Ports] = {
        edge: {"port": first + EDGES_FROM + 2 * place, "mqtt_port": first + EDGES_FROM + 2 * place + 1}
        for place, edge in enumerate(edges)
    }
    return dict(zip(NAMES, range(first, first + len(NAMES)), strict=True)), below


def set_ports(broker: Broker, ports: Ports) -> None:
    """Let a broker that has not started listen on these ports."""
    for name, port in ports.items():
        setattr(broker, name, port)


def taken(broker: Broker, ports: Ports) -> str:
    """Return a sentence about the first port that another process uses, of those that this broker needs; empty if it
    can use them all."""
    for name, port in ports.items():
        if (name != "websocket_port" or broker.websocket) and not is_free(broker.host, port):
            return f"port {port} is in use by {holder_of(port)}"
    return ""


def require_free(ports: Iterable[int], host: str = "127.0.0.1") -> None:
    """Raise HeliographError where another process uses one of these ports."""
    for port in ports:
        if not is_free(host, port):
            raise HeliographError(f"port {port} is in use by {holder_of(port)}; end it, or let this cluster start at "
                                  "another --port")  # fmt: skip


def is_free(host: str, port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder_of(port: int) -> str:
    """Return which process listens on a TCP port, in words."""
    sockets = {f"socket:[{number}]" for number in _listening(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parents[1]
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return f"a process of another user; 'sudo ss -ltnp sport = :{port}' names it"


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, from Linux's tables."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]
