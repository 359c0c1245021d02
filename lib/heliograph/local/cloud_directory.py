"""A cloud that systemd runs: its directory holds the broker's configuration, keys, logins, and what starts it.

    cloud.json      what ``heliograph init`` was told
    broker/         the broker's configuration and store; identity/ is the authority
    tls/            the certificate authority and the broker's certificate, where it listens beyond loopback
    users/operator/ the operator's login, to be carried to the operator's machine
    cloud/          state of the cloud's agent
    environment/    settings of each component; NAME.local.env beside them is the operator's own, and wins
    systemd/        units

It is made of the parts that ``LocalCluster`` is made of. Made again, it changes no key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from heliograph.bus.contract.permissions import agent_login
from heliograph.core.names import CLOUD
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import SitePolicy
from heliograph.local import services
from heliograph.local.cloud_settings import CloudSettings
from heliograph.local.cluster_commands import ClusterCommands
from heliograph.local.cluster_node import Node
from heliograph.local.cluster_tls import ClusterTls
from heliograph.local.cluster_users import COORDINATOR, OPERATOR, cloud_users
from heliograph.local.logins import write_users
from heliograph.local.nats_server import Broker
from heliograph.local.roots import resolved_root


@dataclass(frozen=True)
class Made:
    """What ``CloudDirectory.make`` did: whether certificates were made or renewed, and whether another file of the
    broker has changed, so that it has to start again."""

    renewed: bool
    changed: bool


class CloudDirectory:
    """The directory of one cloud."""

    def __init__(self, directory: Path, settings: CloudSettings, world: World) -> None:
        self.directory = directory.resolve()
        self._settings = replace(settings, code=tuple(resolved_root(root) for root in settings.code))
        self._world = world
        listening = settings.listening
        self.tls = ClusterTls(self.directory / "tls", listening, world) if listening.tls else None
        self.broker = Broker(
            self.directory / "broker", "cloud", tuple(cloud_users([CLOUD], {}, {}, world.new_id)), name="cloud",
            host=listening.host, world=world, port=settings.port, mqtt_port=settings.door_port,
            tls=self.tls.broker if self.tls is not None else None,
        )  # fmt: skip
        self.commands = ClusterCommands(self.broker, self.directory, code=self._settings.code)

    @property
    def operator(self) -> Path:
        """The file by which the operator's commands find the cloud."""
        return self.directory / "users" / OPERATOR / "cluster.json"

    @property
    def units(self) -> Path:
        return self.directory / "systemd"

    def make(self, new_authority: bool = False) -> Made:
        """Make what is missing, and renew certificates that are to end soon. Raise Refused where a name cannot stand in
        a certificate, or other machines would reach the broker unprotected."""
        make_private(self.directory)
        renewed = self.tls is not None and self.tls.certificates.renew()
        if new_authority and self.tls is not None:
            self.tls.certificates.add_authority()
        make_private(self.broker.directory)
        self.broker.issue_logins()
        before = self._config()
        self.broker.write_config()
        self.commands.write_files(self._world, SitePolicy())
        write_users(self.directory / "users", self.broker, (OPERATOR,),
                    files_of=self.tls.files_of if self.tls is not None else None)  # fmt: skip
        node = Node(CLOUD, self.directory / CLOUD)
        make_private(node.directory)
        cloud_agent = self.commands.agent(node, self.broker.url(agent_login(CLOUD)))
        self._write_services(self.commands.coordinator(COORDINATOR, ()), cloud_agent)
        self._settings.write(self.directory)
        return Made(renewed, self._config() != before)

    def _config(self) -> str:
        return self.broker.config_file.read_text() if self.broker.config_file.exists() else ""

    def _write_services(self, coordinator: services.Command, cloud_agent: services.Command) -> None:
        environment, units = make_private(self.directory / "environment"), make_private(self.units)
        for name, (_, variables) in ((COORDINATOR, coordinator), (CLOUD, cloud_agent)):
            write_private(environment / f"{name}.env", services.environment_file(variables))
        written = {
            services.BROKER: services.broker_unit(self.broker.argv),
            services.COORDINATOR: services.unit(
                "the coordinator", coordinator[0], environment / f"{COORDINATOR}.env", after=services.BROKER),
            services.CLOUD: services.unit(
                "the cloud's agent", cloud_agent[0], environment / f"{CLOUD}.env", after=services.COORDINATOR),
            services.RENEWAL: services.renewal_unit([*self.commands.program("init"), "init", str(self.directory)]),
            services.RENEWAL_TIMER: services.renewal_timer(),
        }  # fmt: skip
        for name, text in written.items():
            write_private(units / name, text)
