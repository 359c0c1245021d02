"""Logins of a local cluster's users: tokens and ports that outlive a restart, and the files by which clients log in.

A user's directory holds ``cluster.json`` for the command line and ``heliograph.Client``, and the options files of
mosquitto's clients, which find them by ``XDG_CONFIG_HOME``. Nobody types a token: arguments are visible to every user
of a machine.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from heliograph.core.errors import HeliographError
from heliograph.core.names import is_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.local.mosquitto_door import MosquittoDoor
from heliograph.local.nats_server import Broker

FILE = "logins.json"
"""Name of the file in the cluster's directory that keeps tokens and ports."""
MOSQUITTO = ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr")
_PORTS = ("port", "mqtt_port", "websocket_port")
_DOOR_PORT = "door_port"
_TOKEN_BYTES = 16


class Logins:
    """The tokens of a cluster's users by name, kept in its directory. A user who is not named any more loses the token.

    Raise HeliographError if the directory's file cannot be read: other tokens would lock its clients out.
    """

    def __init__(self, directory: Path, users: Iterable[str], world: World) -> None:
        self._file = directory / FILE
        tokens, self._ports = self._read()
        self.tokens = {name: tokens.get(name) or world.new_secret()[:_TOKEN_BYTES].hex() for name in users}

    def choose_ports(self, broker: Broker, door: MosquittoDoor | None = None) -> None:
        """Let a broker that has not started listen where it did before, so that its clients reconnect, if it can; the
        door of mosquitto too."""
        if door is not None and (port := self._ports.get(_DOOR_PORT)) and _is_free(broker.host, port):
            door.broker.port = port
        ports = {name: port for name, port in self._ports.items() if name in _PORTS and port}
        if {"port", "mqtt_port"} <= ports.keys() and all(_is_free(broker.host, port) for port in ports.values()):
            for name, port in ports.items():
                setattr(broker, name, port)

    def save(self, broker: Broker, door: MosquittoDoor | None = None) -> None:
        """Keep the tokens, and the ports of a broker that has started, and of the door."""
        ports = {name: getattr(broker, name) for name in _PORTS}
        ports[_DOOR_PORT] = self._ports.get(_DOOR_PORT, 0) if door is None else door.broker.port
        write_private(self._file, json.dumps({"tokens": self.tokens, "ports": ports}))

    def _read(self) -> tuple[dict[str, str], dict[str, int]]:
        """Return the kept tokens and ports."""
        try:
            tree = json.loads(self._file.read_text())
            tokens, ports = dict(tree["tokens"]), dict(tree["ports"])
            if not all(is_label(name) and isinstance(token, str) for name, token in tokens.items()):
                raise ValueError
            if not all(isinstance(port, int) and 0 <= port < 1 << 16 for port in ports.values()):
                raise ValueError
        except FileNotFoundError:
            return {}, {}
        except (OSError, ValueError, KeyError, TypeError):
            raise HeliographError(f"{self._file} cannot be read; delete it to give every user a new token") from None
        return tokens, ports


def write_user_files(
    home: Path, broker: Broker, users: Iterable[str], door: MosquittoDoor | None = None
) -> Mapping[str, Path]:
    """Write each user's directory below ``home``, in place of those of an earlier cluster; return them by name.

    MQTT clients find ``door``, or else the embedded broker.
    """
    remove_user_files(home)
    make_private(home)
    directories = {}
    for name in users:
        directory = directories[name] = make_private(home / name)
        write_private(directory / "cluster.json", cluster_document(broker, name, door))
        for program in MOSQUITTO:
            write_private(directory / program, _mosquitto_options(broker, name, door))
    return directories


def remove_user_files(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


def cluster_document(broker: Broker, user: str, door: MosquittoDoor | None = None) -> str:
    """Return the JSON by which a user's clients find the cluster: this process, the user, and URLs with its token."""
    urls = {"server": broker.url(user), "mqtt": broker.url(user, "mqtt") if door is None else door.url(user)}
    return json.dumps({"pid": os.getpid(), "user": user, **urls})


def _mosquitto_options(broker: Broker, user: str, door: MosquittoDoor | None) -> str:
    """Return one option on each line, as mosquitto's clients read them; the embedded broker speaks MQTT 3.1.1."""
    port, version = (broker.mqtt_port, "311") if door is None else (door.broker.port, "5")
    return f"-h {broker.host}\n-p {port}\n-u {user}\n-P {broker.password(user)}\n-V {version}\n"


def _is_free(host: str, port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
