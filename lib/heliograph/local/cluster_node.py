"""A node of a cluster on this machine: where an agent runs, with the broker of its devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.bus.connect import connect
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.edge_agent.devices.mapping_file import read_mapping
from heliograph.local.broker_tls import connected_host
from heliograph.local.child import Child
from heliograph.local.nats_server import Broker, User
from heliograph.local.relay import Relay
from heliograph.server import identity_directory


@dataclass
class Node:
    """The node of one agent: its directory, its broker (the cloud's agent uses the cloud's) and its data sets."""

    name: str
    directory: Path
    broker: Broker | None = None
    external_broker: str = ""
    datasets: Mapping[str, Path] = field(default_factory=dict)
    relay: Relay | None = None
    """The relay on the node's link to the cloud, if the link can be cut."""
    child: Child | None = None

    @property
    def key(self) -> Path:
        """File of the edge's key."""
        return self.directory / "edge-key.pem"

    @property
    def state(self) -> Path:
        """Directory of the agent's state."""
        return self.directory / "state"

    @property
    def identity(self) -> Path:
        """Directory of an edge's login, as ``heliograph enroll`` writes it."""
        return identity_directory(self.name, self.state)

    def give_broker(
        self, secret: Callable[[], str], world: World, ping_interval: str, devices_map: Path | None = None
    ) -> None:
        """Give the node a broker of its own, unless it is the cloud's or uses one that there is. Raise Refused where
        the mapping of devices cannot be read."""
        foreign = read_mapping(devices_map, self.name).filters if devices_map is not None else ()
        if self.name != CLOUD and not self.external_broker:
            users = (User("agent", secret(), "agent"),)  # each launch of a worker has a login of its own
            self.broker = Broker(self.directory / "broker", "node", users, name=self.name, world=world,
                                 ping_interval=ping_interval, foreign=foreign)  # fmt: skip

    def reaching(self, url: str, cloud: Broker) -> str:
        """Return the URL by which the node reaches the cloud: through its relay, if it has one."""
        if self.relay is None:
            return url
        there = cloud.hosts(connected_host(cloud.host), "nats")
        return url.replace(there, f"{self.relay.host}:{self.relay.port}")

    async def bound_broker(self, world: World, timeout: float) -> None:
        """Bound what devices can make its broker keep, once the broker has made its streams for its agent."""
        if self.broker is not None:
            async with connect(self.broker.url("agent"), world=world, name="bounds") as bus:
                await bus.link.wait_up(timeout)
                await bus.bound_mqtt()
