"""Where the servers of a cloud's cluster are, and the certificates by which they know each other.

Routes have an authority of their own: who has a certificate of it is a server of the cluster, and reads and writes what
it likes. No client has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heliograph.bus.connection_url import TLS
from heliograph.core.world import World
from heliograph.local.broker_cluster import ClusteredBroker
from heliograph.local.broker_tls import BrokerTls
from heliograph.local.certificates import Certificates
from heliograph.local.cloud_settings import CloudSettings


def placed(servers: Sequence[ClusteredBroker], settings: CloudSettings) -> Sequence[ClusteredBroker]:
    """Give each server its host and ports: on one machine ports one after the other, else each machine the same."""
    for number, each in enumerate(servers):
        further = 0 if settings.machines else number
        each.port, each.mqtt_port = settings.port + further, settings.door_port + further
        each.leaf_port = settings.leaf_port and settings.leaf_port + further
        each.websocket_port = settings.websocket_port and settings.websocket_port + further
        each.route_port = settings.route_port + further
        each.reached = settings.machines[number] if settings.machines else ""
    return servers


def route_tls(
    directory: Path, host: str, world: World, *, carried: bool = False
) -> tuple[Certificates, BrokerTls]:  # fmt: skip
    """Return the certificates of a server's routes, and how the server uses them.

    Args:
        directory: directory of the authority.
        host: host by which the other servers reach it.
        carried: whether the authority comes from another machine.
    """
    made = Certificates(directory, (host,), world, peers=True, carried=carried)
    return made, BrokerTls(made.server, made.server_key, TLS(made.ca), host, verify=True)
