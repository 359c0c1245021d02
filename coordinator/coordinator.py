"""The coordinator process: it opens its connections, stands by while another leads, and leads term after term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl, with_credentials
from heliograph.bus.contract import buckets
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.link_watch import LinkWatch
from heliograph.bus.nats.auth_callout import AuthCallout, CalloutKeys
from heliograph.bus.nats.authority import CALLOUT_KEYS
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus
from heliograph.coordinator.authorization.callers import Grants
from heliograph.coordinator.cloud_format import check_format
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.identity.issuer import LOGIN_SECONDS, Issuer
from heliograph.coordinator.kubernetes.api import Api
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.coordinator.leadership import Lease
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.store_health import StoreHealth
from heliograph.coordinator.term import Connections, Term
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.failures import sentence_of
from heliograph.core.signing import Signer
from heliograph.core.tasks import Background, keep_running, retry_until_reachable
from heliograph.core.text import never_raising
from heliograph.core.world import World

STEP_ASIDE = 5.0
"""Seconds before a coordinator that could not lead tries again; multiplied by the lease's ``patience``."""


@dataclass(frozen=True)
class CoordinatorConfig:
    """The options a coordinator was started with.

    Attributes:
        nats: URL of the cloud's NATS.
        system: URL with a user of the broker's system account, for presence.
        status: MQTT URL by which retained status is published (the embedded broker's MQTT listener).
        doors: URLs of external MQTT brokers, for requests and retained status.
        name: name by which people tell coordinators apart.
        patience: factor for all times of the lease; the same for all coordinators.
        replicas: servers of the broker's cluster that each stream and bucket is kept by.
        quotas: what callers may ask for and store.
        signing_key: file of the private key that signs versions of models; it is made where there is none. None leaves
            them unsigned. All coordinators of a cluster have the same key.
        document_signer: signs desired documents; None leaves them unsigned. All coordinators of a cluster have the same
            key.
        lives: how long what nobody needs stays.
        authority: directory of the keys that sign the broker's accounts and logins, where it is in operator mode. All
            coordinators of a cluster have it, and those that stand by let anonymous clients in too.
        authorities: file of the certificates by which nodes know the cloud's broker.
        login_seconds: how long the login of an enrolled edge is good.
        grants: what those may do that no User names.
        cloud_keys: file of public keys that nodes are told to obey beside that of ``document_signer``.
        kubernetes: what the operator looks after; None where custom resources are nobody's.
    """

    nats: str
    system: str = ""
    status: str = ""
    doors: tuple[str, ...] = ()
    root: str = DEFAULT_ROOT
    name: str = "coordinator"
    patience: float = 1.0
    replicas: int = 1
    quotas: Quotas = field(default_factory=Quotas)
    signing_key: Path | None = None
    document_signer: Ed25519Signer | None = None
    lives: Lives = field(default_factory=Lives)
    authority: Path | None = None
    authorities: Path | None = None
    login_seconds: int = LOGIN_SECONDS
    grants: Grants = field(default_factory=Grants)
    cloud_keys: Path | None = None
    kubernetes: OperatorSettings | None = None


class Coordinator:
    """One coordinator process; it stands by while another leads."""

    def __init__(self, config: CoordinatorConfig, world: World, out: Callable[[str], None] = print) -> None:
        self._config = config
        self._world = world
        self._out = never_raising(out)
        self._signer = Signer.kept(config.signing_key, world) if config.signing_key is not None else None
        self._source = f"cloud/coordinator/{world.new_id()}"

        def connection(url: str, name: str) -> Bus:
            made = connect(url, root=config.root, world=world, name=name)
            if isinstance(made, NatsBus):
                made.connection.replicas = config.replicas
            return made

        cloud = connection(config.nats, "coordinator")
        requests = connection(config.nats, "requests")
        system = connection(config.system, "presence") if config.system else None
        status = [connection(config.status, "status")] if config.status else []
        doors = [connection(url, "door") for url in config.doors]
        # a broker in operator mode has an account for MQTT clients, to which the login for status leads by NATS too
        door_login = ConnectionUrl.parse(config.status, "status").credentials.file if config.status else None
        door = cloud if door_login is None else connection(with_credentials(config.nats, door_login), "retained")
        kept = [door] if config.status else []
        self._callout, self._issuer = None, None
        if config.authority is not None:
            keys = CalloutKeys.read(config.authority / CALLOUT_KEYS)
            self._callout = AuthCallout(config.nats, keys, world)
            if isinstance(system, NatsBus):
                keys_of_cloud = config.document_signer.public_key if config.document_signer is not None else ""
                self._issuer = Issuer(config.authority, system.connection, world, config.root, config.authorities,
                                      config.login_seconds, keys_of_cloud, config.cloud_keys)  # fmt: skip
        self._connections = Connections(cloud, requests, system, status, kept, doors)
        self._api: Api | None = None

    async def run(self) -> None:
        """Stand by and lead in turn, until cancelled."""
        buses = self._connections.all()
        cloud = self._connections.cloud
        self._watch_links()
        for bus in buses:
            await bus.open()
        if self._config.kubernetes is not None:
            from heliograph.coordinator.kubernetes.client import KubernetesClient  # takes a second to import

            self._api = await KubernetesClient.connect(self._world)
        background = Background(self._out)
        if self._callout:
            background.spawn(keep_running(self._callout.run, self._world, self._out))
        try:
            await cloud.link.wait_up()
            state = await retry_until_reachable(lambda: cloud.kv(buckets.COORDINATOR), self._world, self._out)
            await retry_until_reachable(lambda: check_format(state), self._world, self._out)
            health = StoreHealth(self._connections.system, self._world, self._out)
            background.spawn(keep_running(health.run, self._world, self._out))
            lease = Lease(state, self._world, self._config.name, self._source.rpartition("/")[2], self._on_standby,
                          self._out, self._config.patience)  # fmt: skip
            while True:
                try:
                    await lease.lead(self._lead)
                except Exception as error:  # the lease has been given back
                    self._out(f"warning: this coordinator cannot lead; another one may: {sentence_of(error, 'term')}")
                    await retry_until_reachable(lambda: check_format(state), self._world, self._out)
                    await self._world.sleep(STEP_ASIDE * self._config.patience)
                else:
                    self._out("warning: the lease was not renewed in time; another coordinator may lead now")
        finally:
            await background.close()
            if self._api is not None:
                await self._api.close()
            for bus in buses:
                await bus.close()

    def _watch_links(self) -> None:
        """Say why the broker, or a door, is not reached. The other connections lead to the same broker."""
        links = self._connections
        for bus, what in ((links.cloud, "the broker"), *((door, "the door") for door in links.doors)):
            follows = "nobody is served until then" if bus is links.cloud else "requests there are not heard"
            LinkWatch(bus.link, bus.url, what, follows, self._world, self._warn, self._out).begin()

    def _warn(self, line: str) -> None:
        self._out(f"warning: {line}")

    async def _lead(self) -> None:
        config = self._config
        await Term(
            self._connections, self._world, self._source, config.quotas, config.lives, self._signer,
            config.document_signer, self._issuer, config.grants, self._kubernetes(), self._out,
        ).run()

    def _kubernetes(self) -> tuple[Api, OperatorSettings] | None:
        settings = self._config.kubernetes
        return (self._api, settings) if self._api is not None and settings is not None else None

    def _on_standby(self, leader: str) -> None:
        self._out(f"coordinator stands by; {leader} leads")
