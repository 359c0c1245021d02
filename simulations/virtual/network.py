"""Links between nodes and the cloud in virtual time, with latency, bandwidth, loss, and cuts that are noticed later.

A link carries a connection like TCP: lost packets are sent again and only cost time, messages stay in order, and a
message in flight when the connection breaks may or may not have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from heliograph.bus import link as bus_link
from heliograph.bus import transport
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.connection import MemoryConnection
from heliograph.bus.memory.hub import Hub
from heliograph.core.errors import LinkDown
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import NO_PROCESS, Process

NOTICED_AFTER = 2.0
"""Seconds until both ends of a connection notice that its link is cut, the time of two unanswered pings."""
RECONNECTED_AFTER = 0.1
OVERTAKEN_BY = 2.0
"""Largest delay of an overtaken message, in seconds."""
RESENT_AFTER = 0.2
"""Delay caused by a lost packet, in seconds."""
PACKET = 1460


class Link:
    """The link of one node to the cloud. The numbers may be changed at any time.

    Attributes:
        latency: seconds, one way.
        bandwidth: bytes per second each way; 0 for no limit.
        loss: share of packets that are lost and sent again.
        dropped: share of messages to subscribers that never arrive, as when a client's buffer overflows.
        overtaken: share of messages to subscribers that arrive behind later ones.
        carried_up, carried_down: bytes of messages carried so far.
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
        """Number of broken connections so far."""
        self.carried_up = 0
        self.carried_down = 0
        self._free = [0.0, 0.0]
        self._latest = [0.0, 0.0]
        self._waiting: list[asyncio.Future[None]] = []
        self._parked: list[Callable[[], None]] = []
        self._buses: dict[LinkedBus, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def cut(self) -> None:
        """Cut the link; both ends notice ``NOTICED_AFTER`` seconds later."""
        if not self.up:
            return
        self.up = False
        self._after(NOTICED_AFTER, self._notice)

    def restore(self) -> None:
        if self.up:
            return
        self.up = True
        if self._timer is not None:  # the cut was not noticed: messages in flight arrive late
            self._timer.cancel()
            self._timer = None
            self._release()
            self._reconnect()  # clients attached meanwhile
        else:
            self._after(RECONNECTED_AFTER, self._reconnect)

    def reset(self, seconds: float = RECONNECTED_AFTER) -> None:
        """Break the connection, as when the broker ends, and restore it ``seconds`` later."""
        if self.up:
            self._notice()
            self._after(seconds, self._reconnect)

    def attach(self, bus: LinkedBus) -> bool:
        """Attach a client of this node, and return whether it is connected now."""
        self._buses[bus] = None
        return self.up and self._timer is None

    def detach(self, bus: LinkedBus) -> None:
        self._buses.pop(bus, None)

    async def carry(self, size: int, down: bool = False) -> None:
        """Wait until a message of ``size`` bytes has passed. Raises LinkDown if the connection breaks meanwhile."""
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
        """Call ``put`` when a message has come down the link; never if the connection breaks before."""
        if self.dropped and self._world.rng.random() < self.dropped:
            return
        arrival = self._arrival(size, down=True)
        if self.overtaken and self._world.rng.random() < self.overtaken:
            arrival += self._world.rng.uniform(0.0, OVERTAKEN_BY)
        if arrival > self._loop.time():
            self._loop.call_at(arrival, self._arrived, self.connection, put, context=NO_PROCESS)
        else:
            self._arrived(self.connection, put)

    def _arrived(self, connection: int, put: Callable[[], None]) -> None:
        # a method, because a closure that parks itself is a cycle and keeps its message until the next collection
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
        latest[down] = max(latest[down], free + self.latency)  # messages stay in order even if the latency falls
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
        self._timer = self._loop.call_at(self._loop.time() + seconds, call, context=NO_PROCESS)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        parked, self._parked = self._parked, []
        for arrived in parked:
            arrived()


class LinkedBus(MemoryBus):
    """A client of a hub behind a link: the cloud's hub, or its node's hub if it is not ``durable``."""

    def __init__(
        self, url: str, root: str, world: World, name: str, hub: Hub, link: Link, process: Process, durable: bool = True
    ) -> None:
        super().__init__(url, root, world, name, hub)
        self.durable = durable
        self.connection = _LinkedConnection(self.link, hub, link)
        self._wire = link
        self._process = process

    async def open(self) -> None:
        if self._wire.attach(self):
            self.connect()

    def drop(self) -> None:
        self._wire.detach(self)
        super().drop()

    def connect(self) -> None:
        """Note that the link is connected again."""
        if not self.link.up:
            self.hub.joined(self.name)
            self._set_link(True)

    def lost(self) -> None:
        """Note that the connection broke."""
        if self.link.up:
            self.hub.left(self.name)
            self._set_link(False)

    def _set_link(self, up: bool) -> None:
        """Set the link's state in the context of the client's process, which acts on it."""
        self._process.context.copy().run(self.link.set, up)


class _LinkedConnection(MemoryConnection):
    """A connection to a hub over a link."""

    def __init__(self, link: bus_link.Link, hub: Hub, wire: Link) -> None:
        super().__init__(link, hub)
        self._wire = wire

    async def up(self, size: int) -> None:
        await self._wire.carry(size)

    async def down(self, size: int = 0) -> None:
        await self._wire.carry(size, down=True)

    def arrive(self, arrivals: transport.Arrivals, message: transport.Message) -> None:
        if self.link.up:
            self._wire.deliver(len(message.body), lambda: arrivals.put(message))
