"""What ``heliograph init`` was told about a cloud, kept in its directory: the next ``init`` there is told less."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.private_files import make_private, write_private
from heliograph.local.cluster_tls import Listening

FILE = "cloud.json"
PORT, MQTT_PORT, MQTTS_PORT = 4222, 1883, 8883


@dataclass(frozen=True)
class CloudSettings:
    """Where a cloud listens, and what its agent may run.

    Attributes:
        host, names: see ``Listening``.
        port: NATS's.
        mqtt_port: 0 for the usual one, which TLS decides.
        code: roots of scripts that the cloud's agent may run, each ``DIR`` or ``PREFIX=DIR``.
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    port: int = PORT
    mqtt_port: int = 0
    code: tuple[str, ...] = ()

    @property
    def listening(self) -> Listening:
        return Listening(self.host, self.names)

    @property
    def door_port(self) -> int:
        """The port for MQTT."""
        return self.mqtt_port or (MQTTS_PORT if self.listening.tls else MQTT_PORT)

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
                       tuple(map(str, tree["code"])))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            raise HeliographError(f"{file} is damaged; write it anew: delete it alone, and run 'heliograph init' with"
                                  " all options in an empty directory, then copy its file") from None  # fmt: skip

    def write(self, directory: Path) -> None:
        write_private(make_private(directory) / FILE, json.dumps(asdict(self)) + "\n")
