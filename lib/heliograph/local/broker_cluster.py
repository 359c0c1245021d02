"""A cluster of nats-servers on this machine that share one authority, so that streams have replicas.

Each server has a directory, a store and a copy of the accounts of its own; the resolver hands new accounts on. Clients
get a URL that lists all servers.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heliograph.core.private_files import make_private
from heliograph.local.broker_tls import in_url
from heliograph.local.nats_server import Broker, free_ports

_HOST = "127.0.0.1"
"""Where servers reach each other: routes have no login here, so they stay on the machine."""
_PORTS = ("port", "mqtt_port", "route_port")


@dataclass
class ClusteredBroker(Broker):
    """One server of a cluster.

    Args:
        authority_directory: directory of the keys that all servers share.
        route_port: port at which the other servers reach it.
        others: the other servers.
    """

    authority_directory: Path = Path()
    route_port: int = 0
    others: tuple[ClusteredBroker, ...] = ()

    @property
    def identity(self) -> Path:
        """The directory of the cluster's authority."""
        return self.authority_directory

    def issue_logins(self) -> None:
        """Write the logins, and this server's copy of the accounts: while it was away others may have got new ones."""
        super().issue_logins()
        own = make_private(self._accounts)
        issued = {file.name for file in (self.identity / "accounts").glob("*.jwt")}
        for name in issued:
            shutil.copy2(self.identity / "accounts" / name, own / name)
        for file in own.glob("*.jwt"):
            if file.name not in issued:
                file.unlink()

    @property
    def _accounts(self) -> Path:
        return self.directory / "accounts"

    def server_options(self) -> Mapping[str, Any]:
        """Return what the authority and the cluster add to the server's configuration."""
        options = dict(super().server_options())
        options["resolver"] = {**options["resolver"], "dir": str(self._accounts)}
        members = sorted((self, *self.others), key=lambda each: each.name)
        routes = [f"nats://{_HOST}:{each.route_port}" for each in members]
        # clients reach what their URLs list, and no address that a server thinks it has
        cluster = {"name": "heliograph", "host": _HOST, "port": self.route_port, "no_advertise": True, "routes": routes}
        return {**options, "cluster": cluster}

    def _hosts(self, host: str, scheme: str) -> str:
        ports = [each.port if scheme == "nats" else each.mqtt_port for each in (self, *self.others)]
        return ",".join(f"{in_url(host)}:{port}" for port in ports)


def clustered(broker: Broker, servers: int) -> list[ClusteredBroker]:
    """Return the servers of a cluster in place of one broker; the first has its directory. Starting them is the
    caller's: JetStream answers once a majority runs."""
    authority = broker.directory / "identity"
    fields = {name: value for name, value in vars(broker).items() if not name.startswith("_")}
    made = [
        ClusteredBroker(**fields, authority_directory=authority) if not number else
        replace(ClusteredBroker(**fields, authority_directory=authority), name=f"{broker.name}-{number + 1}",
                directory=broker.directory.with_name(f"{broker.directory.name}-{number + 1}"))
        for number in range(servers)
    ]  # fmt: skip
    ports = iter(free_ports(len(_PORTS) * servers, broker.host))
    for each in made:
        for name in _PORTS:
            setattr(each, name, next(ports))
        each.others = tuple(other for other in made if other is not each)
    return made
