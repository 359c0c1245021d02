"""The agent's connection to the broker of the node's devices.

Its session outlives it: what devices publish at QoS 1 while the agent is away waits in the broker. A message is
acknowledged when the journal has it on the disk, and not before, so that the broker sends it again after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link import Link
from heliograph.bus.mqtt.connection import FAILURE, MqttConnection, PersistentSession
from heliograph.bus.mqtt.library_client import Arrived
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.edge_agent.devices.kept_filters import KeptFilters
from heliograph.edge_agent.devices.message import DeviceMessage, Taking

WINDOW = 16_384
"""Messages without an acknowledgement, at most, where the broker speaks MQTT 5; else its own limit holds. mosquitto as
packaged queues 1,000 beyond it. They lie in the broker: the journal takes only what it has room for."""
KEPT = 30 * 86_400
"""Seconds for which the broker keeps the session of an agent that is away, where it speaks MQTT 5."""
_SHORT, _OFTEN = 3.0, 5
"""Seconds of a connection that has ended soon, and so many in a row that something else than a restart ends them."""


def client_of(edge: str) -> str:
    """Return the client id of an edge's agent at the broker of its devices. It names the session there."""
    return f"heliograph-{edge}-devices"


class DeviceSession:
    """The connection to an MQTT broker.

    Args:
        filters: what to subscribe to, and what to take back.
        refused: called with (filter, error) where the broker refuses a subscription.
        say: called with a line about a session that another client takes.
    """

    def __init__(
        self, url: str, edge: str, filters: KeptFilters, world: World, taking: Taking,
        refused: Callable[[str, Exception], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.link = Link()
        self.listening = asyncio.Event()
        """Set once it has subscribed."""
        self._filters = filters
        self._world = world
        self._taking = taking
        self._refused = refused
        self._say = say
        self._connection = MqttConnection(ConnectionUrl.parse(url), world, self.link, self._arrived, self._subscribe,
                                          PersistentSession(client_of(edge), WINDOW, KEPT, taking.begin))  # fmt: skip
        self._client = client_of(edge)
        self._since, self._short = 0.0, 0

    async def run(self) -> None:
        """Hand over messages until cancelled."""
        self.link.listen(self._on_link)
        await self._connection.open()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.link.forget(self._on_link)
            await self._connection.close()

    def acknowledge(self, ids: Sequence[int]) -> bool:
        return self._connection.acknowledge(ids)

    def pause(self) -> None:
        self._connection.pause()

    def resume(self) -> None:
        self._connection.resume()

    async def _subscribe(self) -> None:
        self._taking.settle()
        for each in await self._filters.begin():
            await self._connection.unsubscribe(each)
        for each in self._filters.wanted:
            code = await self._connection.subscribe(each)
            if code >= FAILURE:
                self._refused(each, Refused("forbidden", topic=each, expected="permission to subscribe",
                                            got=f"SUBACK {code}"))  # fmt: skip
        await self._filters.end()
        self.listening.set()

    def _arrived(self, arrived: Arrived) -> None:
        said = getattr(arrived.properties, "ContentType", "")
        self._taking.take(DeviceMessage(
            arrived.topic, arrived.payload if isinstance(arrived.payload, bytes) else bytes(arrived.payload or b""),
            arrived.mid if arrived.qos else 0, arrived.again, arrived.retain, said if isinstance(said, str) else "",
        ))  # fmt: skip

    def _on_link(self, up: bool) -> None:
        """Say it if connections end soon, again and again: a broker gives a session to the client that came last."""
        now = self._world.monotonic()
        if up:
            self._since = now
            return
        self._short = self._short + 1 if now - self._since < _SHORT else 0
        if self._short == _OFTEN:
            self._say(f"the connection to the devices' broker ends again and again ({self.link.last_error}): another "
                      f"client there has the id {self._client}, probably another agent of this name. Each of their "
                      "messages goes to one of the two; end one, or give it a name of its own")  # fmt: skip
