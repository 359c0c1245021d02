"""The directory of a cloud's machine that runs one server of its cluster, and nothing else of the cloud.

    cloud.json          what ``heliograph init`` was told on the first machine, and which machine this is
    broker/             the server's configuration and store; trust.json is whom it trusts, accounts/ whom it lets in
    tls/                the certificate authorities of clients and of routes, and this server's certificates
    systemd/            units

``carry`` writes it on the first machine, without what names its place; ``MachineDirectory.make`` writes the rest where
it has been carried to. It has no login, and no key that signs one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from heliograph.core.errors import HeliographError
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.local import services
from heliograph.local.broker_cluster import ClusteredBroker, members
from heliograph.local.cloud_settings import CloudSettings
from heliograph.local.cluster_routes import placed, route_tls
from heliograph.local.cluster_tls import ClusterTls
from heliograph.local.nats_server import Broker

TRUST = "trust.json"
ROUTES = "routes"
_NAME = "cloud"


@dataclass
class CarriedBroker(ClusteredBroker):
    """A server of a cluster on a machine that has no keys of the authority."""

    @property
    def authenticated(self) -> bool:
        return True

    def issue_logins(self) -> None:
        """Do nothing: the accounts have been carried here, or the resolver has handed them on."""

    def server_options(self) -> Mapping[str, Any]:
        file = self.directory / TRUST
        try:
            return self.clustered_options(dict(json.loads(file.read_text())))
        except (OSError, ValueError, TypeError, KeyError):
            raise HeliographError(f"{file} cannot be read; carry the machine's directory here again") from None


class MachineDirectory:
    """The directory of one machine, where it has been carried to."""

    def __init__(self, directory: Path, settings: CloudSettings, world: World) -> None:
        self.directory = directory.resolve()
        self.tls = ClusterTls(self.directory / "tls", settings.listening, world, carried=True)
        first = Broker(self.directory / "broker", "cloud", name=_NAME, host=settings.host, world=world,
                       patience=settings.patience, tls=self.tls.broker)  # fmt: skip
        known = placed(members(first, settings.servers), settings)[settings.machine - 1]
        self._routes, tls = route_tls(self.directory / "tls" / ROUTES, known.reached, world, carried=True)
        own = {each.name: getattr(known, each.name) for each in fields(ClusteredBroker)}
        self.broker = CarriedBroker(**own | {"directory": first.directory, "route_tls": tls})

    @property
    def units(self) -> Path:
        return self.directory / "systemd"

    def make(self, program: Iterable[str]) -> tuple[bool, bool]:
        """Write configuration and units for this place, and renew certificates that are to end soon. Return whether
        certificates were made or renewed, and whether the configuration has changed.

        Args:
            program: command that runs ``heliograph``, for the renewal.
        """
        make_private(self.directory)
        renewed = self.tls.certificates.renew()
        renewed |= self._routes.renew()
        before = self.broker.config_file.read_text() if self.broker.config_file.exists() else ""
        self.broker.write_config()
        make_private(self.units)
        for name, text in {
            services.BROKER: services.broker_unit(self.broker.argv),
            services.RENEWAL: services.renewal_unit([*program, "init", str(self.directory)]),
            services.RENEWAL_TIMER: services.renewal_timer(),
        }.items():
            write_private(self.units / name, text)
        return renewed, self.broker.config_file.read_text() != before


def carry(target: Path, settings: CloudSettings, first: Broker, tls: Path) -> bool:
    """Write the directory that is to be carried to a machine. Return whether it says something else than before, but
    for accounts, which the servers hand on.

    Args:
        first: the cluster's server on this machine, which has the authority.
        tls: directory of the certificate authorities.
    """
    make_private(target)
    trust = first.authority.server_options()
    files = {Path("broker", TRUST): json.dumps({**trust, "resolver": {**trust["resolver"], "dir": ""}}, indent=1)}
    for below in (Path(), Path(ROUTES)):
        for file in (tls / below).glob("authority-*.pem"):
            files[Path("tls", below, file.name)] = file.read_text()
    before = CloudSettings.read(target) if (target / "cloud.json").exists() else None
    changed = before != settings
    settings.write(target)
    for name, text in files.items():
        there = target / name
        if not there.exists() or there.read_text() != text:
            make_private(there.parent)
            write_private(there, text)
            changed = True
    shutil.rmtree(target / "broker" / "accounts", ignore_errors=True)
    accounts = make_private(target / "broker" / "accounts")
    for file in (first.identity / "accounts").glob("*.jwt"):
        write_private(accounts / file.name, file.read_text())
    return changed
