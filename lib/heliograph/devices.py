"""Logins of a node's devices, where its broker is a mosquitto with dynamic security; run by the node's operator."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from heliograph.bus.connection_url import without_login
from heliograph.bus.contract.device_permissions import device_topics, require_foreign
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.mqtt.dynamic_security import dynamic_security
from heliograph.core.errors import HeliographError
from heliograph.core.mosquitto_limits import LINES
from heliograph.core.names import require_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World

ADMIN, AGENT = "admin", "agent"
_PLUGIN = "mosquitto_dynamic_security.so"
_LIBRARIES = (Path("/usr/lib"), Path("/usr/local/lib"))
_ROLE = "device-"
_SETTINGS = "dynamic-security.json"
_ITERATIONS = 20_000
"""Of PBKDF2, for each password, which are 128 random bits."""


async def add(
    broker: str, name: str, directory: Path, world: World, root: str = DEFAULT_ROOT, foreign: Sequence[str] = ()
) -> Path:
    """Make a device's login at the broker, and write its URL into a file; return the file.

    Args:
        broker: URL with a login that administers dynamic security.
        directory: where the file comes.
        foreign: MQTT filters of further topics, which the device may publish and read, as a gateway does.

    Raise Refused if the name is no DNS label, if somebody has it, or if a filter is about Heliograph's topics too.
    """
    publish, subscribe = device_topics(name, root)
    for pattern in foreign:
        require_foreign(pattern, root)
    password = world.new_secret().hex()[:32]
    async with dynamic_security(broker, world) as security:
        await security.add(name, password, f"{_ROLE}{name}", (*publish, *foreign), (*subscribe, *foreign))
    file = make_private(directory) / f"{name}.url"
    write_private(file, f"{_with_login(broker, name, password)}\n")
    return file


async def remove(broker: str, name: str, directory: Path, world: World) -> None:
    """Take a device's login away: its connection ends. Raise Refused if it has none."""
    require_label(name, "device")
    async with dynamic_security(broker, world) as security:
        await security.remove(name, f"{_ROLE}{name}")
    (directory / f"{name}.url").unlink(missing_ok=True)


async def names(broker: str, world: World) -> list[str]:
    """Return the names of the devices that have a login."""
    async with dynamic_security(broker, world) as security:
        return [role.removeprefix(_ROLE) for role in await security.roles() if role.startswith(_ROLE)]


def write_settings(
    directory: Path, broker: str, plugin: str, world: World, root: str = DEFAULT_ROOT, foreign: Sequence[str] = ()
) -> str:
    """Write the plugin's file with logins for the administrator and the agent, and the URLs of both; return the lines
    of mosquitto.conf that load it, and let wait in mosquitto what devices publish while the agent is away.

    Args:
        broker: URL by which this node reaches its mosquitto, without a login.
        foreign: MQTT filters of further topics, which the agent takes.
    """
    passwords = {name: world.new_secret().hex()[:32] for name in (ADMIN, AGENT)}
    rights = {ADMIN: _all_of("$CONTROL/dynamic-security/#"), AGENT: _all_of(f"{root}/#")}
    rights[AGENT] += [{"acltype": "subscribePattern", "topic": each, "allow": True} for each in foreign]
    tree = {
        "clients": [_client(name, password, world) for name, password in passwords.items()],
        "roles": [{"rolename": name, "acls": acls} for name, acls in rights.items()],
        "defaultACLAccess": {"publishClientSend": False, "publishClientReceive": True, "subscribe": False,
                             "unsubscribe": True},
    }  # fmt: skip
    settings = make_private(directory) / _SETTINGS
    write_private(settings, json.dumps(tree, indent=1))
    for name, password in passwords.items():
        write_private(directory / f"{name}.url", f"{_with_login(broker, name, password)}\n")
    lines = ("allow_anonymous false", f"plugin {plugin}", f"plugin_opt_config_file {settings.resolve()}", *LINES)
    return "".join(f"{line}\n" for line in lines)


def find_plugin() -> Path:
    """Return mosquitto's plugin, wherever this machine's distribution has put it. Raise HeliographError if it is in no
    directory of libraries."""
    for directory in _LIBRARIES:
        found = sorted([*directory.glob(_PLUGIN), *directory.glob(f"*/{_PLUGIN}")])
        if found:
            return found[0]
    raise HeliographError(f"{_PLUGIN} is in no directory of libraries; install mosquitto 2.0 or later, or name the file"
                          " by --plugin")  # fmt: skip


def _client(name: str, password: str, world: World) -> dict[str, object]:
    salt = world.new_secret()[:12]
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return {"username": name, "password": base64.b64encode(digest).decode(), "salt": base64.b64encode(salt).decode(),
            "iterations": _ITERATIONS, "roles": [{"rolename": name}]}  # fmt: skip


def _all_of(pattern: str) -> list[dict[str, object]]:
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    return [{"acltype": kind, "topic": pattern, "allow": True} for kind in kinds]


def _with_login(broker: str, name: str, password: str) -> str:
    parts = urlsplit(without_login(broker))
    return parts._replace(netloc=f"{name}:{password}@{parts.netloc}").geturl()
