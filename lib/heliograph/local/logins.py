"""Logins of a local cluster's users: tokens and ports that outlive a restart, and the files by which clients log in.

A user's directory holds ``cluster.json`` for the command line and ``heliograph.Client``, and the options files of
mosquitto's clients, which find them by ``XDG_CONFIG_HOME``. Nobody types a token: arguments are visible to every user
of a machine.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from heliograph.bus.connection_url import TLS, TLS_FILES
from heliograph.core.errors import HeliographError
from heliograph.core.names import is_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.local.mosquitto_door import MosquittoDoor
from heliograph.local.nats_server import Broker
from heliograph.local.ports import NAMES, holder_of, is_free, set_ports, taken

FILE = "logins.json"
"""Name of the file in the cluster's directory that keeps tokens and ports."""
LOGIN = "login.creds"
"""Name of the file in a user's directory with the login for NATS."""
MOSQUITTO = ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
_DOOR_PORT = "door_port"
_TOKEN_BYTES = 16


class Logins:
    """The tokens of a cluster's users by name, kept in its directory. A user who is not named any more loses the token.

    Raise HeliographError if the directory's file cannot be read: other tokens would lock its clients out.
    """

    def __init__(self, directory: Path, users: Iterable[str], world: World) -> None:
        self._file = directory / FILE
        tokens, self._ports, self._nodes = self._read()
        self.tokens = {name: tokens.get(name) or world.new_secret()[:_TOKEN_BYTES].hex() for name in users}

    def choose_ports(
        self, broker: Broker, door: MosquittoDoor | None = None, nodes: Mapping[str, Broker] | None = None
    ) -> list[str]:
        """Let brokers that have not started listen where they did before, so that their clients reconnect.

        Args:
            door: mosquitto's door.
            nodes: the edges' brokers by name.

        Returns:
            sentences about ports that other processes use now; a broker that needs one of them listens elsewhere.
        """
        said = []
        if door is not None and (port := self._ports.get(_DOOR_PORT)):
            if is_free(broker.host, port):
                door.broker.port = port
            else:
                said.append(f"port {port} is in use by {holder_of(port)}: mosquitto gets another than last time")
        below = [(node, self._nodes.get(name, {})) for name, node in (nodes or {}).items()]
        for each, kept in [(broker, self._ports), *below]:
            ports = {name: port for name, port in kept.items() if name in NAMES and port}
            if not {"port", "mqtt_port"} <= ports.keys():
                continue
            if why := taken(each, ports):
                said.append(f"{why}: broker {each.name} gets other ports than at the last start")
            else:
                set_ports(each, ports)
        return said

    def save(
        self, broker: Broker, door: MosquittoDoor | None = None, nodes: Mapping[str, Broker] | None = None
    ) -> None:
        """Keep the tokens, and the ports of brokers that have started, and of the door."""
        kept = self._ports.get(_DOOR_PORT, 0) if door is None else door.broker.port
        tree = {"tokens": self.tokens, "ports": {**_ports_of(broker), _DOOR_PORT: kept},
                "nodes": {name: _ports_of(node) for name, node in (nodes or {}).items()}}  # fmt: skip
        write_private(self._file, json.dumps(tree))

    def _read(self) -> tuple[dict[str, str], dict[str, int], dict[str, dict[str, int]]]:
        """Return the kept tokens, ports, and ports of the edges' brokers."""
        try:
            tree = json.loads(self._file.read_text())
            tokens, ports = dict(tree["tokens"]), dict(tree["ports"])
            nodes = {name: dict(kept) for name, kept in dict(tree.get("nodes", {})).items()}
            if not all(is_label(name) and isinstance(token, str) for name, token in tokens.items()):
                raise ValueError
            kept_ports = [port for kept in (ports, *nodes.values()) for port in kept.values()]
            if not all(isinstance(port, int) and 0 <= port < 1 << 16 for port in kept_ports):
                raise ValueError
        except FileNotFoundError:
            return {}, {}, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise HeliographError(f"{self._file} cannot be read; delete it to give every user a new token") from None
        return tokens, ports, nodes


def _ports_of(broker: Broker) -> dict[str, int]:
    return {name: getattr(broker, name) for name in NAMES}


def write_user_files(
    home: Path, broker: Broker, users: Iterable[str], door: MosquittoDoor | None = None, *,
    participants: Iterable[str] = (), files_of: Callable[[str], TLS] | None = None,
) -> Mapping[str, Path]:  # fmt: skip
    """Write the directories of logins below ``home``, in place of those of an earlier cluster; see ``write_users``."""
    remove_user_files(home)
    return write_users(home, broker, users, door, participants=participants, files_of=files_of)


def write_users(
    home: Path, broker: Broker, users: Iterable[str], door: MosquittoDoor | None = None, *,
    participants: Iterable[str] = (), files_of: Callable[[str], TLS] | None = None,
) -> Mapping[str, Path]:  # fmt: skip
    """Write each login's directory below ``home``; return them by name.

    MQTT clients of users find ``door``, or else the embedded broker. Participants find that one alone: it carries their
    updates, and their connection to it is their presence.

    Args:
        files_of: gives the TLS files of a login, which its directory gets copies of, so that one may carry it to
            another machine; None where the broker speaks clear text.
    """
    make_private(home)
    directories = {}
    for name, own in [*((each, door) for each in users), *((each, None) for each in participants)]:
        directory = directories[name] = make_private(home / name)
        files = _copied(files_of(name), directory) if files_of is not None else TLS()
        write_private(directory / LOGIN, broker.login_file(name).read_text())
        write_private(directory / "cluster.json", _users_document(broker, name, own, files))
        for program in MOSQUITTO:
            write_private(directory / program, _mosquitto_options(broker, name, own, files))
    return directories


def _copied(files: TLS, directory: Path) -> TLS:
    """Return copies of TLS files in a user's directory."""
    copies = {}
    for name in TLS_FILES:
        file: Path | None = getattr(files, name)
        if file is not None:
            copies[name] = directory / f"{name}.pem"
            write_private(copies[name], file.read_text())
    return TLS(**copies)


def remove_user_files(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


def cluster_document(
    broker: Broker, user: str, door: MosquittoDoor | None = None, allowed_packages: Path | None = None
) -> str:
    """Return the JSON by which a user's clients find the cluster: this process, the user, a NATS URL that names the
    login's file, and an MQTT URL with user and password, for programs of any language; for the operator also the file
    of packages that may run.
    """
    mqtt = broker.url_with_password(user) if door is None else door.url(user)
    urls = {"server": broker.url(user), "mqtt": mqtt}
    more = {"allowed_packages": str(allowed_packages)} if allowed_packages is not None else {}
    return json.dumps({"pid": os.getpid(), "user": user, **urls, **more})


def _users_document(broker: Broker, user: str, door: MosquittoDoor | None, files: TLS) -> str:
    """Return the JSON in a user's directory, which names the files of login and TLS beside it."""
    mqtt = broker.public_url(user, "mqtt") if door is None else door.public_url(user)
    named = {name: file.name for name in TLS_FILES if (file := getattr(files, name)) is not None}
    return json.dumps({"user": user, "server": broker.public_url(), "mqtt": mqtt, "credentials": LOGIN, **named})


def _mosquitto_options(broker: Broker, user: str, door: MosquittoDoor | None, files: TLS) -> str:
    """Return one option on each line, as mosquitto's clients read them; the embedded broker speaks MQTT 3.1.1."""
    if door is None:
        port, version, password = broker.mqtt_port, "311", broker.password(user)
    else:
        port, version, password = door.broker.port, "5", door.password(user)
    lines = [f"-h {broker.public_host}", f"-p {port}", f"-u {user}", f"-P {password}", f"-V {version}"]
    if files.ca is not None:
        lines += [f"--cafile {files.ca}", "--tls-version tlsv1.3"]
    if files.certificate is not None:
        lines += [f"--cert {files.certificate}", f"--key {files.key}"]
    return "".join(f"{line}\n" for line in lines)
