"""The brokers of the matrix, each in a container: they start, are killed and start again as those in processes do.

What differs from the brokers of all other tests is who built them, and whose system they run on. Versions are those of
the images; an image that the engine lacks is fetched by it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from heliograph.local.broker_cluster import ClusteredBroker, clustered
from heliograph.local.nats_server import Broker, User, free_ports

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

    from tests.bus.meeting import Running

NATS_IMAGE = "nats:2.15"
MOSQUITTO_IMAGE = "eclipse-mosquitto:2.0"
EMQX_IMAGE = "emqx/emqx:5.8"
SERVERS = 3
COORDINATOR: Final = "coordinator"
_HERE = "127.0.0.1"


class InContainer:
    """One broker in a container. The first start makes the container; later ones start it again, at its ports."""

    process: Running | None = None
    """None: it is a process of the engine, which no test can stop by a signal."""

    def __init__(self, image: str, prepare: Callable[[DockerContainer], DockerContainer]) -> None:
        self._image = image
        self._prepare = prepare
        self._container: DockerContainer | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def kill(self) -> None:
        """Kill the broker by SIGKILL; its container stays."""
        if self._container is not None:
            await asyncio.to_thread(self._container.get_wrapped_container().kill)

    async def remove(self) -> None:
        """Remove the container, with what it has stored."""
        if self._container is not None:
            await asyncio.to_thread(self._container.stop)

    def _start(self) -> None:
        if self._container is not None:
            self._container.get_wrapped_container().start()
            return
        from testcontainers.core.container import DockerContainer

        self._container = self._prepare(DockerContainer(self._image)).start()


class Mqtt(InContainer):
    """A broker of MQTT that lets everybody in, at a port of this machine."""

    def __init__(self, image: str, prepare: Callable[[DockerContainer], DockerContainer]) -> None:
        (self.port,) = free_ports(1)
        super().__init__(image, lambda made: prepare(made.with_bind_ports(1883, self.port)))

    def url(self) -> str:
        return f"mqtt://{_HERE}:{self.port}"


def mosquitto_image(directory: Path) -> Mqtt:
    """Return mosquitto with the settings of the tests' own."""
    directory.mkdir(mode=0o755)
    settings = ("listener 1883", "allow_anonymous true", "set_tcp_nodelay true", "persistence false")
    (directory / "mosquitto.conf").write_text("\n".join(settings) + "\n")
    (directory / "mosquitto.conf").chmod(0o644)  # its user is another one
    there = "/mosquitto/config"
    command = f"/usr/sbin/mosquitto -c {there}/mosquitto.conf"
    return Mqtt(MOSQUITTO_IMAGE, lambda made: made.with_volume_mapping(directory, there).with_command(command))


def emqx() -> Mqtt:
    """Return EMQX as it comes, but for the size of messages: an update is larger than its 1 MB."""
    return Mqtt(EMQX_IMAGE, lambda made: made.with_env("EMQX_MQTT__MAX_PACKET_SIZE", "16MB"))


class NatsCluster:
    """Three nats-servers with the configuration that ``init`` and ``up`` write. They use the machine's network and
    its paths, so that each line of that configuration means the same as without a container."""

    process: Running | None = None

    def __init__(self, directory: Path) -> None:
        one = Broker(directory / "broker", "cloud", (User(COORDINATOR, "", COORDINATOR),), name="cloud")
        self.servers: list[ClusteredBroker] = clustered(one, SERVERS)

        def prepare(made: DockerContainer, server: ClusteredBroker) -> DockerContainer:
            made = made.with_volume_mapping(directory, str(directory), "rw").with_command(f"-c {server.config_file}")
            return made.with_kwargs(network_mode="host", user=f"{os.getuid()}:{os.getgid()}")

        self._containers = [InContainer(NATS_IMAGE, partial(prepare, server=each)) for each in self.servers]

    def url(self) -> str:
        return self.servers[0].url(COORDINATOR)

    async def start(self) -> None:
        for server in self.servers:
            server.directory.mkdir(parents=True, exist_ok=True)
            server.issue_logins()
            server.write_config()
        await asyncio.gather(*(each.start() for each in self._containers))

    async def kill(self) -> None:
        await asyncio.gather(*(each.kill() for each in self._containers))

    async def remove(self) -> None:
        await asyncio.gather(*(each.remove() for each in self._containers))
