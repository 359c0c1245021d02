"""The MQTT 5 door of a local cluster: a mosquitto where people log in, which the coordinator serves like its own.

Requests, their answers and status alone pass it. mosquitto's rules come from the registry, as the embedded broker's do.
Nothing it keeps outlives it: the coordinator publishes every retained status anew when it comes back.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from os import getuid
from pathlib import Path

from heliograph.bus.contract.mosquitto_acl import mosquitto_acl
from heliograph.bus.contract.topics import MIB, Role
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.local.broker_tls import BrokerTls, connected_host, in_url
from heliograph.local.mosquitto import Mosquitto, find_mosquitto
from heliograph.local.nats_server import User

ROLES: tuple[Role, ...] = ("coordinator", "operator", "user")
"""The roles that use the door; agents and workers have no business there."""
ITERATIONS = 20_000
"""Of PBKDF2, for each password. Tokens are 128 random bits, so that no number of guesses finds one."""
_SALT_BYTES = 12
_SETTINGS = (
    "set_tcp_nodelay true",
    "persistence false",
    f"max_packet_size {2 * MIB}",  # the largest request, in its envelope
    "max_queued_messages 1000",
    "max_connections 1024",
    "max_inflight_messages 100",
    f"max_queued_bytes {16 * MIB}",  # of one client
)


class MosquittoDoor:
    """One mosquitto with the logins of those users that have a role at the door.

    Args:
        directory: directory of its configuration, rules and password hashes.
        users: logins of the cluster.
        host, tls: see ``Mosquitto``.

    Raises:
        HeliographError: if mosquitto is not installed.
    """

    def __init__(
        self, directory: Path, users: Iterable[User], world: World, host: str = "127.0.0.1",
        tls: BrokerTls | None = None,
    ) -> None:  # fmt: skip
        find_mosquitto()
        self._users = {user.name: user for user in users if user.role in ROLES}
        self._world = world
        passwords, rules = directory / "passwords", directory / "rules.acl"
        own = () if getuid() else ("user root",)  # it would become a user who may not read the files
        self.broker = Mosquitto(
            directory, (*_SETTINGS, *own, f"password_file {passwords}", f"acl_file {rules}"), world,
            host=host, tls=tls,
        )  # fmt: skip
        self._passwords, self._rules = passwords, rules

    async def start(self) -> None:
        """Start mosquitto and return when it runs. Raise HeliographError with its log if it does not."""
        make_private(self.broker.directory)
        tokens = {name: user.password for name, user in self._users.items()}
        write_private(self._passwords, await self._world.in_thread(password_file, tokens, self._world))
        write_private(self._rules, mosquitto_acl("cloud", {name: user.role for name, user in self._users.items()}))
        await self.broker.start()

    async def stop(self) -> None:
        await self.broker.kill()  # it keeps nothing that it could save

    def password(self, user: str) -> str:
        return self._users[user].password

    def url(self, user: str = "") -> str:
        """Return the MQTT URL with a user's credentials, for processes of this machine."""
        tls = self.broker.tls
        return self._url(user, connected_host(self.broker.host)) + (tls.own.query if tls else "")

    def public_url(self, user: str = "") -> str:
        """Return the MQTT URL with a user's credentials, for other machines too; it names no files of this one."""
        return self._url(user, self.broker.tls.name if self.broker.tls else connected_host(self.broker.host))

    def _url(self, user: str, host: str) -> str:
        login = f"{user}:{self.password(user)}@" if user else ""
        return f"{'mqtts' if self.broker.tls else 'mqtt'}://{login}{in_url(host)}:{self.broker.port}"


def password_file(tokens: Mapping[str, str], world: World) -> str:
    """Return mosquitto's password file: each password as a salted PBKDF2 hash, in the format of ``mosquitto_passwd``.

    The passwords are on no command line, which every user of a machine could read.
    """
    return "".join(f"{name}:{_hashed(token, world.new_secret()[:_SALT_BYTES])}\n" for name, token in tokens.items())


def _hashed(password: str, salt: bytes) -> str:
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return f"$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
