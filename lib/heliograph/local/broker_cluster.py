"""A cluster of nats-servers that share one authority, so that streams have replicas.

Each server has a directory, a store and a copy of the accounts of its own; the resolver hands new accounts on. Clients
get a URL that lists all servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import AccountClaims
from heliograph.core.identity.tokens import decode
from heliograph.core.private_files import make_private, write_private
from heliograph.local.broker_tls import BrokerTls, in_url
from heliograph.local.nats_server import Broker, free_ports

HERE = "127.0.0.1"
"""Where servers of one machine reach each other: their routes need no login there."""
MQTT_API_TIMEOUT = "2s"
"""Time that a server waits for an answer of JetStream on behalf of an MQTT client, as our own clients wait for one.
What was asked of a server that is killed is never answered, and meanwhile neither the client gets on nor any that
comes to that server; nats-server's own 5 s added themselves to each election."""
_PORTS = ("port", "mqtt_port", "route_port")


@dataclass
class ClusteredBroker(Broker):
    """One server of a cluster.

    Args:
        authority_directory: directory of the keys that all servers share.
        reached: host by which everybody reaches it; by default clients reach it at ``host``, and the other servers on
            this machine.
        route_port: port at which the other servers reach it.
        route_tls: certificate by which servers know each other; None on one machine.
        others: the other servers.
    """

    authority_directory: Path = Path()
    reached: str = ""
    route_port: int = 0
    route_tls: BrokerTls | None = None
    others: tuple[ClusteredBroker, ...] = ()

    @property
    def identity(self) -> Path:
        """The directory of the cluster's authority."""
        return self.authority_directory

    @property
    def accounts(self) -> Path:
        """The directory of this server's copy of the accounts."""
        return self.directory / "accounts"

    @property
    def mqtt_options(self) -> Mapping[str, Any]:
        return {"js_api_timeout": MQTT_API_TIMEOUT}

    def issue_logins(self) -> None:
        """Write the logins, and this server's copy of the accounts: while it was away others may have got new ones."""
        super().issue_logins()
        self.copy_accounts()

    def copy_accounts(self) -> None:
        """Write this server's copy of the accounts, and delete those that there are no more."""
        own, issued = make_private(self.accounts), self.identity / "accounts"
        for file in issued.glob("*.jwt"):
            there = own / file.name
            if not there.exists() or not _say_the_same(there.read_text(), file.read_text()):
                write_private(there, file.read_text())
        for file in own.glob("*.jwt"):
            if not (issued / file.name).exists():
                file.unlink()

    def server_options(self) -> Mapping[str, Any]:
        """Return what the authority and the cluster add to the server's configuration."""
        return self.clustered_options(super().server_options())

    def clustered_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the authority's options with what the cluster adds to them."""
        members = sorted((self, *self.others), key=lambda each: each.name)
        routes = [f"nats://{in_url(each.reached or HERE)}:{each.route_port}" for each in members]
        cluster: dict[str, Any] = {
            "name": "heliograph", "host": self.host if self.route_tls else HERE, "port": self.route_port,
            # clients reach what their URLs list, and no address that a server thinks it has
            "no_advertise": True, "routes": routes,
        }  # fmt: skip
        if self.route_tls is not None:
            cluster["tls"] = self.route_tls.of_nats_server()
        return {**options, "resolver": {**options["resolver"], "dir": str(self.accounts)}, "cluster": cluster}

    def hosts(self, host: str, scheme: str) -> str:
        members = (self, *self.others)
        ports = [each.port if scheme == "nats" else each.mqtt_port for each in members]
        hosts = [each.reached or host for each in members]
        return ",".join(f"{in_url(host)}:{port}" for host, port in zip(hosts, ports, strict=True))


def clustered(broker: Broker, servers: int) -> list[ClusteredBroker]:
    """Return the servers of a cluster on this machine in place of one broker, at free ports; the first has its
    directory. Starting them is the caller's: JetStream answers once a majority runs."""
    made = members(broker, servers)
    ports = iter(free_ports(len(_PORTS) * servers, broker.host))
    for each in made:
        for name in _PORTS:
            setattr(each, name, next(ports))
    return made


def members(broker: Broker, servers: int) -> list[ClusteredBroker]:
    """Return the servers of a cluster in place of one broker, which know each other, and have its ports; the first has
    its directory."""
    authority = broker.directory / "identity"
    own = {each.name: getattr(broker, each.name) for each in fields(Broker)}
    made = [
        ClusteredBroker(**own, authority_directory=authority) if not number else
        replace(ClusteredBroker(**own, authority_directory=authority), name=f"{broker.name}-{number + 1}",
                directory=broker.directory.with_name(f"{broker.directory.name}-{number + 1}"))
        for number in range(servers)
    ]  # fmt: skip
    for each in made:
        each.others = tuple(other for other in made if other is not each)
    return made


def _say_the_same(one: str, other: str) -> bool:
    """Return whether two accounts' tokens claim the same, whenever they were signed."""
    try:
        first, second = (replace(decode(token, AccountClaims), issued_at=0) for token in (one, other))
    except Refused:
        return False
    return first == second
