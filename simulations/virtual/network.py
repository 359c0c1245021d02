"""Links between nodes and the cloud, in virtual time: latency, bandwidth, loss, and cuts that are noticed only later.

A link carries a connection, as TCP does: what is lost is sent again and only costs time, nothing overtakes, and what is
under way when the connection breaks may have arrived or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from heliograph.bus import transport
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.memory.hub import Hub
from heliograph.core.errors import LinkDown
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import NOBODY, Process

NOTICED_AFTER = 2.0
"""Seconds until both ends of a connection know that its link is cut: two pings that nobody answered."""
BACK_AFTER = 0.1
OVERTAKEN_BY = 2.0
"""Seconds that a message which is overtaken comes later, at most."""
RESENT_AFTER = 0.2
"""Seconds that a lost packet costs."""
PACKET = 1460


class Link:
    """One node's way to the cloud. Numbers may be changed at any time.

    Attributes:
        latency: seconds, one way.
        bandwidth: bytes a second each way; 0: without bound.
        loss: the share of packets that have to be sent again.
        dropped: the share of messages to subscribers that never come, as when a client's buffer overflows.
        overtaken: the share of messages to subscribers that come late, behind those that were sent after them.
        carried_up, carried_down: bytes of messages.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, world: World, latency: float = 0.0, bandwidth: float = 0.0,
                 loss: float = 0.0) -> None:  # fmt: skip
        self._loop = loop
        self._world = world
        self.latency = latency
        self.bandwidth = bandwidth
        self.loss = loss
        self.dropped = 0.0
        self.overtaken = 0.0
        self.up = True
        self.connection = 0
        """Counts the connections that broke."""
        self.carried_up = 0
        self.carried_down = 0
        self._free = [0.0, 0.0]
        self._latest = [0.0, 0.0]
        self._waiting: list[asyncio.Future[None]] = []
        self._parked: list[Callable[[], None]] = []
        self._buses: dict[LinkedBus, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def cut(self) -> None:
        """From now on nothing passes; both ends notice a little later."""
        if not self.up:
            return
        self.up = False
        self._after(NOTICED_AFTER, self._notice)

    def mend(self) -> None:
        if self.up:
            return
        self.up = True
        if self._timer is not None:  # nobody has noticed: what is under way comes late
            self._timer.cancel()
            self._timer = None
            self._release()
            self._reconnect()  # for who has come meanwhile
        else:
            self._after(BACK_AFTER, self._reconnect)

    def reset(self, seconds: float = BACK_AFTER) -> None:
        """The connection breaks, as when the broker ends, and is made again so many seconds later."""
        if self.up:
            self._notice()
            self._after(seconds, self._reconnect)

    def attach(self, bus: LinkedBus) -> bool:
        """A client of this node wants its connection. Returns whether it has one now."""
        self._buses[bus] = None
        return self.up and self._timer is None

    def detach(self, bus: LinkedBus) -> None:
        self._buses.pop(bus, None)

    async def carry(self, size: int, down: bool = False) -> None:
        """Returns when a message of ``size`` bytes has passed. Raises LinkDown where the connection broke meanwhile."""
        connection = self.connection
        if wait := self._arrival(size, down) - self._loop.time():
            await self._world.sleep(wait)
        while not self.up and connection == self.connection:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            await waiting
        if connection != self.connection:
            raise LinkDown("the link went down")

    def deliver(self, size: int, put: Callable[[], None]) -> None:
        """Calls ``put`` when a message has come down the link; never where the connection breaks before."""
        if self.dropped and self._world.rng.random() < self.dropped:
            return
        arrival = self._arrival(size, down=True)
        if self.overtaken and self._world.rng.random() < self.overtaken:
            arrival += self._world.rng.uniform(0.0, OVERTAKEN_BY)
        if arrival > self._loop.time():
            self._loop.call_at(arrival, self._arrived, self.connection, put, context=NOBODY)
        else:
            self._arrived(self.connection, put)

    def _arrived(self, connection: int, put: Callable[[], None]) -> None:
        # a method: a closure that parks itself is a cycle, and holds its message until the next collection
        if connection == self.connection:
            if self.up:
                put()
            else:
                self._parked.append(partial(self._arrived, connection, put))

    def _arrival(self, size: int, down: bool) -> float:
        if down:
            self.carried_down += size
        else:
            self.carried_up += size
        now = self._loop.time()
        latest = self._latest
        if not (self.latency or self.bandwidth or self.loss):
            return max(now, latest[down])
        free = max(now, self._free[down]) + (size / self.bandwidth if self.bandwidth else 0.0)
        if self.loss:
            lost = (1 + size / PACKET) * self.loss
            free += RESENT_AFTER * (int(lost) + (self._world.rng.random() < lost % 1))
        self._free[down] = free
        latest[down] = max(latest[down], free + self.latency)  # nor where the latency has fallen does one overtake
        return latest[down]

    def _notice(self) -> None:
        self._timer = None
        self.connection += 1
        self._free = [0.0, 0.0]
        self._latest = [0.0, 0.0]
        self._parked.clear()
        for bus in list(self._buses):
            bus.lost()
        self._release()

    def _reconnect(self) -> None:
        self._timer = None
        for bus in list(self._buses):
            bus.connect()

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._loop.time() + seconds, call, context=NOBODY)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        parked, self._parked = self._parked, []
        for arrived in parked:
            arrived()


class LinkedBus(MemoryBus):
    """A client of a hub behind a link: of the cloud's, or, where it is not ``durable``, of its node's."""

    def __init__(
        self, url: str, root: str, world: World, name: str, hub: Hub, link: Link, process: Process, durable: bool = True
    ) -> None:
        super().__init__(url, root, world, name, hub)
        self.durable = durable
        self.connection = _LinkedConnection(self.link, hub, link)
        self._way = link
        self._process = process

    async def open(self) -> None:
        if self._way.attach(self):
            self.connect()

    def drop(self) -> None:
        self._way.detach(self)
        super().drop()

    def connect(self) -> None:
        """The link carries a connection again."""
        if not self.link.up:
            self.hub.joined(self.name)
            self._tell(True)

    def lost(self) -> None:
        """The connection broke."""
        if self.link.up:
            self.hub.left(self.name)
            self._tell(False)

    def _tell(self, up: bool) -> None:
        """What follows from it is the process's own doing, whoever cut the link."""
        self._process.context.copy().run(self.link.set, up)


class _LinkedConnection(MemoryConnection):
    """The way over a link."""

    def __init__(self, link: transport.Link, hub: Hub, way: Link) -> None:
        super().__init__(link, hub)
        self._way = way

    async def up(self, size: int) -> None:
        await self._way.carry(size)

    async def down(self, size: int = 0) -> None:
        await self._way.carry(size, down=True)

    def arrive(self, arrivals: transport.Arrivals, message: transport.Message) -> None:
        if self.link.up:
            self._way.deliver(len(message.body), lambda: arrivals.put(message))
