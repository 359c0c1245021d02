"""A cloud that systemd runs: its directory holds the broker's configuration, keys, logins, and what starts it.

    cloud.json      what ``heliograph init`` was told
    broker/         the broker's configuration and store; identity/ is the authority
    broker-2/, …    further servers of a cluster on one machine
    machines/HOST/  of a cluster on several machines: what is to be carried to HOST (``MachineDirectory``)
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
from heliograph.local.broker_cluster import members
from heliograph.local.certificates import Certificates
from heliograph.local.cloud_settings import CloudSettings
from heliograph.local.cluster_commands import ClusterCommands
from heliograph.local.cluster_node import Node
from heliograph.local.cluster_routes import placed, route_tls
from heliograph.local.cluster_tls import ClusterTls
from heliograph.local.cluster_users import COORDINATOR, OPERATOR, cloud_users
from heliograph.local.logins import write_users
from heliograph.local.machine_directory import ROUTES, carry
from heliograph.local.nats_server import Broker
from heliograph.local.roots import resolved_root


@dataclass(frozen=True)
class Made:
    """What ``CloudDirectory.make`` did: whether certificates were made or renewed, whether another file of a broker has
    changed, so that it has to start again, and which machines' directories are to be carried there again."""

    renewed: bool
    changed: bool
    carried: tuple[str, ...] = ()


class CloudDirectory:
    """The directory of one cloud."""

    def __init__(self, directory: Path, settings: CloudSettings, world: World) -> None:
        self.directory = directory.resolve()
        self._settings = replace(settings, code=tuple(resolved_root(root) for root in settings.code))
        self._world = world
        listening = settings.listening
        self.tls = ClusterTls(self.tls_files, listening, world) if listening.tls else None
        self.broker = Broker(
            self.directory / "broker", "cloud", tuple(cloud_users([CLOUD], {}, {}, world.new_id)), name="cloud",
            host=listening.host, world=world, port=settings.port, mqtt_port=settings.door_port,
            leaf_port=settings.leaf_port, websocket=bool(settings.websocket_port),
            websocket_port=settings.websocket_port, patience=settings.patience,
            tls=self.tls.broker if self.tls is not None else None,
        )  # fmt: skip
        self.brokers: list[Broker] = [self.broker]
        """The servers on this machine."""
        self._routes: Certificates | None = None
        if settings.servers > 1:
            servers = placed(members(self.broker, settings.servers), settings)
            self.broker = servers[0]
            self.brokers = [*servers[:1]] if settings.machines else [*servers]
            if settings.machines:
                self._routes, servers[0].route_tls = route_tls(self.tls_files / ROUTES, servers[0].reached, world)
        self.commands = ClusterCommands(self.broker, self.directory, code=self._settings.code,
                                        servers=settings.servers)  # fmt: skip

    @property
    def operator(self) -> Path:
        """The file by which the operator's commands find the cloud."""
        return self.directory / "users" / OPERATOR / "cluster.json"

    @property
    def units(self) -> Path:
        return self.directory / "systemd"

    @property
    def broker_units(self) -> list[str]:
        """The names of the units of this machine's servers."""
        return [services.BROKER, *map(services.further_broker, range(2, len(self.brokers) + 1))]

    @property
    def carried_to(self) -> tuple[str, ...]:
        """The hosts of the other machines."""
        return self._settings.machines[1:]

    def machine(self, host: str) -> Path:
        """The directory that is to be carried to a machine."""
        return self.directory / "machines" / host

    def make(self, new_authority: bool = False) -> Made:
        """Make what is missing, and renew certificates that are to end soon. Raise Refused where a name cannot stand in
        a certificate, or other machines would reach the broker unprotected."""
        make_private(self.directory)
        renewed = self.tls is not None and self.tls.certificates.renew()
        renewed |= self._routes is not None and self._routes.renew()
        if new_authority and self.tls is not None:
            self.tls.certificates.add_authority()
        before = self._config()
        for broker in self.brokers:
            make_private(broker.directory)
            broker.issue_logins()
            broker.write_config()
        self.commands.write_files(self._world, SitePolicy())
        write_users(self.directory / "users", self.broker, (OPERATOR,),
                    files_of=self.tls.files_of if self.tls is not None else None)  # fmt: skip
        node = Node(CLOUD, self.directory / CLOUD)
        make_private(node.directory)
        cloud_agent = self.commands.agent(node, self.broker.url(agent_login(CLOUD)))
        self._write_services(self.commands.coordinator(COORDINATOR, ()), cloud_agent)
        self._settings.write(self.directory)
        carried = tuple(
            host for number, host in enumerate(self._settings.machines, 1)
            if number > 1 and carry(self.machine(host), self._settings.of_machine(number), self.broker, self.tls_files)
        )  # fmt: skip
        return Made(renewed, self._config() != before, carried)

    @property
    def tls_files(self) -> Path:
        """The directory of the certificate authorities."""
        return self.directory / "tls"

    def _config(self) -> list[str]:
        files = [broker.config_file for broker in self.brokers]
        return [file.read_text() for file in files if file.exists()]

    def _write_services(self, coordinator: services.Command, cloud_agent: services.Command) -> None:
        environment, units = make_private(self.directory / "environment"), make_private(self.units)
        for name, (_, variables) in ((COORDINATOR, coordinator), (CLOUD, cloud_agent)):
            write_private(environment / f"{name}.env", services.environment_file(variables))
        written = {
            **{name: services.broker_unit(broker.argv, broker.ports)
               for name, broker in zip(self.broker_units, self.brokers, strict=True)},
            services.COORDINATOR: services.unit(
                "the coordinator", coordinator[0], environment / f"{COORDINATOR}.env", after=services.BROKER),
            services.STANDBY: services.unit(
                "a coordinator that stands by", [*coordinator[0], "--name", "standby"],
                environment / f"{COORDINATOR}.env", after=services.BROKER),
            services.CLOUD: services.unit(
                "the cloud's agent", cloud_agent[0], environment / f"{CLOUD}.env", after=services.COORDINATOR),
            services.RENEWAL: services.renewal_unit([*self.commands.program("init"), "init", str(self.directory)],
                                                     self.broker_units),
            services.RENEWAL_TIMER: services.renewal_timer(),
        }  # fmt: skip
        for name, text in written.items():
            write_private(units / name, text)
