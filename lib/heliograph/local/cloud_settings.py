"""What ``heliograph init`` was told about a cloud, kept in its directory: the next ``init`` there is told less."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.private_files import make_private, write_private
from heliograph.local.cluster_tls import Listening
from heliograph.local.nats_server import PATIENCE

FILE = "cloud.json"
PORT, MQTT_PORT, MQTTS_PORT, ROUTE_PORT = 4222, 1883, 8883, 6222
_HOST = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.IGNORECASE)
SERVERS = (1, 3, 5)
"""Numbers of servers: a majority of an even number is no smaller than that of the next odd one."""


@dataclass(frozen=True)
class CloudSettings:
    """Where a cloud listens, and what its agent may run.

    Attributes:
        host, names: see ``Listening``.
        port: NATS's; further servers on one machine have the ports after it.
        mqtt_port: 0 for the usual one, which TLS decides; as ``port``.
        code: roots of scripts that the cloud's agent may run, each ``DIR`` or ``PREFIX=DIR``.
        servers: nats-servers of the cloud.
        machines: host by which everybody reaches each server; empty where all are on one machine.
        machine: number of the machine whose directory this is, from 1 on. The first has all but the other servers.
        route_port: port at which servers reach each other; as ``port``.
        leaf_port: port at which servers of sites connect, 0 for none; as ``port``.
        websocket_port: port for WebSocket, 0 for none; as ``port``.
        patience: seconds for which a client may leave the broker's pings unanswered.
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    port: int = PORT
    mqtt_port: int = 0
    code: tuple[str, ...] = ()
    servers: int = 1
    machines: tuple[str, ...] = ()
    machine: int = 1
    route_port: int = ROUTE_PORT
    leaf_port: int = 0
    websocket_port: int = 0
    patience: float = PATIENCE

    @property
    def listening(self) -> Listening:
        """Where this machine's servers listen."""
        return Listening(self.host, (*self.machines[self.machine - 1 : self.machine], *self.names))

    @property
    def door_port(self) -> int:
        """The port for MQTT."""
        return self.mqtt_port or (MQTTS_PORT if self.listening.tls else MQTT_PORT)

    def check(self, before: CloudSettings | None = None, stored: bool = False) -> None:
        """Raise Refused where servers and machines do not fit together, or do not fit what there is. A server that is
        taken away has replicas, and a majority of the rest may not have what the cluster has acknowledged. What a
        server has stored alone no cluster knows of: nats-server deletes it 30 s after the cluster has begun.

        Args:
            before: the cloud's settings until now.
            stored: whether its broker has stored something.
        """
        if before is not None and before.servers == 1 < self.servers and stored:
            raise Refused("unsupported", field="--servers", expected="1: nats-server deletes what a server has stored"
                          " alone when it becomes one of a cluster", got=self.servers,
                          hint="Make the cluster in an empty directory, create there what this cloud has, and let the"
                          " nodes enrol there.")  # fmt: skip
        if before is not None and before.servers > self.servers:
            raise Refused("unsupported", field="--servers", expected=f"{before.servers} or more, as this cloud has",
                          got=self.servers)  # fmt: skip
        if self.servers not in SERVERS:
            raise Refused("invalid", field="--servers", expected="1, 3 or 5", got=self.servers)
        if self.machines and len(set(self.machines)) != self.servers:
            raise Refused("invalid", field="--machine", got=", ".join(self.machines),
                          expected=f"a host for each of {self.servers} servers, once each",
                          hint="Type --machine once for each server, with the host by which everybody reaches"
                          " it, this machine's first; without any all servers are on this machine.")  # fmt: skip
        for machine in self.machines:
            if not _is_host(machine):
                raise Refused("invalid", field="--machine", expected="a host name or an IP address", got=machine)
        if before is not None and stored and before.servers > 1 and self.machines[: before.servers] != before.machines:
            raise Refused("unsupported", field="--machine", got=", ".join(self.machines) or "none",
                          expected=f"first the machines that this cloud has, {', '.join(before.machines)}"
                          if before.machines else "none, as this cloud has: its servers are all on this machine",
                          hint="Each server has a number, by which the others know what it has stored.")  # fmt: skip
        self._check_ports()

    def _check_ports(self) -> None:
        """Raise Refused where two listeners of one machine would have the same port."""
        further = 0 if self.machines else self.servers - 1
        firsts = {"--port": self.port, "--mqtt-port": self.door_port, "--leaf-port": self.leaf_port,
                  "--websocket-port": self.websocket_port}  # fmt: skip
        if self.servers > 1:
            firsts["--route-port"] = self.route_port
        used = sorted((first, option) for option, first in firsts.items() if first)
        for (first, option), (second, other) in pairwise(used):
            if second <= first + further:
                held = f"{first} to {first + further}" if further else str(first)
                raise Refused("invalid", field=other, got=second,
                              expected=f"another port than {option} has, {held}")  # fmt: skip

    def of_machine(self, number: int) -> CloudSettings:
        """Return what another machine's directory keeps: where the first listens at its own address, so does it."""
        own = self.machines[number - 1]
        return replace(self, host=own if self.host == self.machines[0] else self.host, machine=number, code=())

    @classmethod
    def read(cls, directory: Path) -> CloudSettings | None:
        """Return what the directory keeps; None for one that is empty, or not there yet.

        Raises:
            Refused: for a directory that something else is in.
            HeliographError: where the file cannot be read.
        """
        file = directory / FILE
        if not file.exists():
            if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
                raise Refused("exists", field="DIRECTORY", expected="an empty directory, or one that 'heliograph init'"
                              f" has made, with {FILE}", got=str(directory),
                              hint="Name another directory.")  # fmt: skip
            return None
        try:
            tree = json.loads(file.read_text())
            return cls(str(tree["host"]), tuple(map(str, tree["names"])), int(tree["port"]), int(tree["mqtt_port"]),
                       tuple(map(str, tree["code"])), int(tree.get("servers", 1)),
                       tuple(map(str, tree.get("machines", ()))), int(tree.get("machine", 1)),
                       int(tree.get("route_port", ROUTE_PORT)), int(tree.get("leaf_port", 0)),
                       int(tree.get("websocket_port", 0)),
                       float(tree.get("patience", PATIENCE)))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise HeliographError(f"{file} is damaged; write it anew: delete it alone, and run 'heliograph init' with"
                                  " all options in an empty directory, then copy its file") from None  # fmt: skip

    @classmethod
    def of_cloud(cls, directory: Path) -> CloudSettings:
        """Return what the directory keeps of a cloud. Raise Refused for one that has no cloud, or one server of it
        alone; otherwise as ``read`` does."""
        found = cls.read(directory)
        if found is None:
            raise Refused("not-found", field="DIRECTORY", expected="a directory that 'heliograph init' has made",
                          got=str(directory), hint="Make it: heliograph init DIRECTORY.")  # fmt: skip
        if found.machine > 1:
            raise Refused("invalid", field="DIRECTORY", expected="the directory in which 'heliograph init' made the"
                          f" cloud, on {found.machines[0]}", got=f"{directory}, what was carried from there",
                          hint="Type the command there.")  # fmt: skip
        return found

    def write(self, directory: Path) -> None:
        write_private(make_private(directory) / FILE, json.dumps(asdict(self)) + "\n")


def usual_host(machine: str) -> str:
    """Return where a machine's server listens by default: at the address by which the machine is named, or at all."""
    return machine if _is_address(machine) else "0.0.0.0"


def _is_host(text: str) -> bool:
    return len(text) <= 253 and (_HOST.fullmatch(text) is not None or _is_address(text))


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False
