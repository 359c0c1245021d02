"""Which edges are connected, from the broker's own connection events (system account): a fact of the transport.

A connection counts as an edge's if the broker has let it in as ``agent-<edge>``: by a token of that name, which the
account's key has signed, or in a broker without tokens as the user of that name; any client may bear the name. Where
the broker asks for neither, the name counts, and a warning says so. A participant that trains by
itself, ``participant-<name>``, is present in the same way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, cast

from nats.aio.msg import Msg

from heliograph.bus.contract.permissions import agent_login, agent_of, is_site, participant_login, participant_of
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.nats.all_servers import ask_all, server_ids, server_of
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.connection import time_told
from heliograph.bus.reconnecting import LONGEST_PAUSE
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.tokens import decode
from heliograph.core.tasks import Flag, cancel_and_wait, wait_for
from heliograph.core.world import World

ACCOUNT = "HELIOGRAPH"
GRACE = 1.0
"""Seconds in which an edge that was online may return after a restart of the coordinator, or of a site's server."""
BACK_WITHIN = LONGEST_PAUSE + GRACE
"""Seconds after a start of the broker in which it may return: clients back off while the broker is away."""
_PAGE = 1024
_Connection = tuple[str, int]
"""Id of a server, and the number by which it knows a connection."""
_EARLIER: _Connection = ("", 0)
"""Stands for a connection that an earlier coordinator saw; servers number connections from 1."""
WATCH_SERVERS = 0.7
"""Seconds between two questions which servers of a cluster live: a killed one tells of no connection that ends."""


class Presence:
    """Follows the broker's connections, and calls ``changed(edge, online)`` at each change.

    Args:
        before: edges that were online when a coordinator last led.
        warn: called with a line, once, if the broker has let a client in without a user.
    """

    def __init__(
        self,
        system: NatsBus,
        world: World,
        changed: Callable[[str, bool], None],
        before: Collection[str] = (),
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._system = system
        self._world = world
        self._changed = changed
        self._warn = warn
        self._warned = False
        self._connections: dict[str, set[_Connection]] = {edge: {_EARLIER} for edge in before}
        self.known = asyncio.Event()
        """Set once the broker has listed the connected edges."""
        self.participants: set[str] = set()
        """Those of the present edges that train by themselves, by a participant's login."""
        self._missing: set[str] = set()
        """Edges that were online when the broker went away, and have not come back."""
        self._all_back = Flag()
        self._sites_changed = Flag()
        """Set once a site's server has come or gone, with the edges behind it, of which nothing is heard."""
        self._changed_meanwhile: dict[_Connection, str] | None = None
        """Connections that changed while the broker lists all: each with its edge, or "" where it went."""

    def online(self, edge: str) -> bool:
        return bool(self._connections.get(edge))

    def edges(self) -> list[str]:
        return sorted(edge for edge, connections in self._connections.items() if connections)

    async def run(self) -> None:
        """Follow until cancelled; list all connections again after each reconnect."""
        while True:
            await self._system.link.wait_up()
            connection = self._system.connection
            client = connection.client
            account = "$SYS.ACCOUNT.*"
            subscriptions = [
                await connection.guard(client.subscribe(f"{account}.CONNECT", cb=self.on_connect)),
                await connection.guard(client.subscribe(f"{account}.DISCONNECT", cb=self.on_disconnect)),
            ]
            try:
                await client.flush()
                # after a restart of the broker edges return one by one; no round may close without them
                self._missing = set(self.edges()) - (await self._list_connections()).keys()
                if self._missing:
                    self._all_back.clear()
                    await wait_for(self._all_back, max(GRACE, BACK_WITHIN - await self._broker_age()))
                await self.refresh()
                self.known.set()
                await self._until_down()
            finally:  # else the client subscribes them again at its reconnect, beside the new ones
                for subscription in subscriptions:
                    await connection.unsubscribe(subscription)

    async def _until_down(self) -> None:
        """Wait until the link is down. List all connections again when a site's server has come or gone, and in a
        cluster when a server has gone, once its edges had the time to reach another."""
        while not self._system.connection.clustered and self._system.link.up:
            down = asyncio.create_task(self._system.link.wait_down())
            changed = asyncio.create_task(self._sites_changed.wait())
            try:
                await asyncio.wait((down, changed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel_and_wait(down, changed)
            if self._system.link.up:
                await self._refresh_soon()
        servers: set[str] = set()
        while self._system.link.up:
            found = await server_ids(self._system.connection)
            if servers - found or self._sites_changed.is_set():
                await self._refresh_soon()
            servers = found
            await self._world.sleep(WATCH_SERVERS)

    async def _broker_age(self) -> float:
        """Return for how many seconds the broker has run, of several servers the youngest, by their own clocks."""
        answers = await ask_all(self._system.connection, "$SYS.REQ.SERVER.PING.STATSZ")
        return min(map(_age_in, answers), default=BACK_WITHIN)

    async def _refresh_soon(self) -> None:
        self._sites_changed.clear()
        await self._world.sleep(GRACE)
        await self.refresh()

    async def refresh(self) -> None:
        """List all connections, apply events that came meanwhile, and report the changes."""
        changed: dict[_Connection, str] = {}
        self._changed_meanwhile = changed
        try:
            found = await self._list_connections()
        finally:
            self._changed_meanwhile = None
        for connection, edge in changed.items():  # newer than the answer, which may have been on its way
            for connections in found.values():
                connections.discard(connection)
            if edge:
                found.setdefault(edge, set()).add(connection)
        before = set(self.edges())
        self._connections = found
        for edge in sorted(before ^ set(self.edges())):
            self._changed(edge, edge not in before)

    async def _list_connections(self) -> dict[str, set[_Connection]]:
        """Return the agents' connections as the broker lists them, by edge."""
        found: dict[str, set[_Connection]] = {}
        offset = 0
        while True:
            body = json.dumps({"auth": True, "limit": _PAGE, "offset": offset}).encode()
            more = False
            for answer in await ask_all(self._system.connection, "$SYS.REQ.SERVER.PING.CONNZ", body):
                connections = (answer.get("data") or {}).get("connections") or []
                for each in connections:
                    user = each.get("authorized_user")
                    edge = self._edge_of(each.get("name"), user, each.get("jwt"), each.get("account", ACCOUNT))
                    if edge:
                        found.setdefault(edge, set()).add((server_of(answer), int(each["cid"])))
                more = more or len(connections) >= _PAGE
            if not more:
                return found
            offset += _PAGE

    async def on_connect(self, message: Msg) -> None:
        """Take the broker's event that a client has connected."""
        edge, connection = self._client_of(message)
        if edge:
            self._missing.discard(edge)
            if not self._missing:
                self._all_back.set()
            if self._changed_meanwhile is not None:
                self._changed_meanwhile[connection] = edge
            connections = self._connections.setdefault(edge, set())
            connections.add(connection)
            if len(connections) == 1:
                self._changed(edge, True)

    async def on_disconnect(self, message: Msg) -> None:
        """Take the broker's event that a client has gone."""
        edge, connection = self._client_of(message)
        if self._changed_meanwhile is not None:
            self._changed_meanwhile[connection] = ""
        connections = self._connections.get(edge)
        if connections and connection in connections:
            connections.discard(connection)
            if not connections:
                self._changed(edge, False)

    def _client_of(self, message: Msg) -> tuple[str, _Connection]:
        try:
            event = json.loads(message.data)
            client: dict[str, Any] = event["client"]
            user, token = client.get("user"), client.get("jwt")
            edge = self._edge_of(client.get("name"), user, token, client.get("acc", ACCOUNT))
            if isinstance(token, str) and token and is_site(_name_in(token)):
                self._sites_changed.set()
            return edge, (server_of(event), int(client["id"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, HeliographError):
            return "", _EARLIER

    def _edge_of(self, name: object, user: object, token: object, account: object) -> str:
        """Return the edge of a connection; empty if it is neither an agent's nor a participant's."""
        if isinstance(token, str) and token:  # the broker has verified it; beside it an MQTT client claims any user
            user = _name_in(token)
        elif account != ACCOUNT:  # another tenant's client
            return ""
        edge = _edge_named(user or name)
        (self.participants.add if edge and participant_of(str(user or name)) else self.participants.discard)(edge)
        if user:
            return edge
        if edge and not self._warned:
            self._warned = True
            self._warn("the broker lets clients in without a user: whoever names a connection agent-EDGE counts as "
                       "that edge. Give each agent a login of that name.")  # fmt: skip
        return edge


def _age_in(answer: Mapping[str, Any]) -> float:
    """Return the seconds since its start that a server tells; as many as are awaited where it tells none."""
    started, now = (answer.get("statsz") or {}).get("start"), (answer.get("server") or {}).get("time")
    try:
        return time_told(str(now)) - time_told(str(started))
    except ValueError:
        return BACK_WITHIN


@lru_cache(maxsize=4096)  # every listing has the same ones
def _name_in(token: str) -> str:
    """Return the name in the token of a login, which is never empty: without one it is none of ours."""
    try:
        return decode(token, UserClaims).name or ACCOUNT
    except Refused:
        return ACCOUNT


class MemoryPresence:
    """Follows the clients of a hub in memory by their names, for simulations and tests."""

    def __init__(self, system: MemoryBus, world: World, changed: Callable[[str, bool], None],
                 before: Collection[str] = ()) -> None:  # fmt: skip
        self._system = system
        self._world = world
        self._changed = changed
        self._before = before
        self.known = asyncio.Event()
        self.participants: set[str] = set()

    async def run(self) -> None:
        """Follow until cancelled."""
        hub = self._system.hub
        changes: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()

        def on_client(client: str, connected: bool) -> None:
            if name := participant_of(client):
                self.participants.add(name)
            changes.put_nowait((client, connected))

        hub.on_clients.append(on_client)
        try:
            online = {edge for client in hub.clients if (edge := _edge_named(client))}
            absent = sorted(set(self._before) - online)
            for edge in sorted(online.difference(self._before)):
                self._changed(edge, True)
            if absent:
                await self._world.sleep(GRACE)
            online |= set(self._before)
            for edge in absent:
                if agent_login(edge) not in hub.clients and participant_login(edge) not in hub.clients:
                    online.discard(edge)  # else its return would go unnoticed
                    self._changed(edge, False)
            self.known.set()
            while True:
                client, connected = await changes.get()
                edge = _edge_named(client)
                if edge and connected != (edge in online) and connected == (client in hub.clients):
                    (online.add if connected else online.discard)(edge)
                    self._changed(edge, connected)
        finally:
            hub.on_clients.remove(on_client)


def presence_of(
    system: Bus,
    world: World,
    changed: Callable[[str, bool], None],
    before: Collection[str] = (),
    warn: Callable[[str], None] = lambda line: None,
) -> Presence | MemoryPresence:
    """Return a presence follower that fits the transport of ``system``."""
    if isinstance(system, MemoryBus):
        return MemoryPresence(system, world, changed, before)
    return Presence(cast(NatsBus, system), world, changed, before, warn)


def _edge_named(name: object) -> str:
    """Return the edge of the agent or the participant with that name; empty if it is neither's."""
    return agent_of(name) or participant_of(name) if isinstance(name, str) else ""
