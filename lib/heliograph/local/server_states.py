"""Whether each server of a cloud's cluster has everything that the others have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliograph.bus.connect import connect
from heliograph.bus.nats.all_servers import ask_all
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import HeliographError, Unreachable
from heliograph.core.world import World

CONNECT_WITHIN = 5.0
ASK_EVERY = 0.5
"""Seconds between two questions while a server catches up: it tells nobody when it has."""
_HEALTH = "$SYS.REQ.SERVER.PING.HEALTHZ"


@dataclass(frozen=True)
class ServerState:
    """What one server says of itself; ``lacks`` is empty where it is current."""

    name: str
    version: str = ""
    lacks: str = ""


async def server_states(url: str, names: Sequence[str], world: World, wait: float = 0.0) -> list[ServerState]:
    """Return the state of each server, by a login of the system account.

    Args:
        names: names of the servers that there are to be.
        wait: seconds to wait until all are current.

    Raises:
        Unreachable: where no server answers.
    """
    until = world.monotonic() + wait
    async with connect(url, world=world, name="servers") as bus:
        assert isinstance(bus, NatsBus)
        await bus.link.wait_up(max(wait, CONNECT_WITHIN))
        while True:
            found = await _asked(bus, names)
            late = world.monotonic() >= until
            if found is not None and (late or not any(each.lacks for each in found)):
                return found
            if late:
                raise Unreachable(f"{bus.connection.url.shown}: no server answers; start them")
            await world.sleep(ASK_EVERY)


async def _asked(bus: NatsBus, names: Sequence[str]) -> list[ServerState] | None:
    """Return what the servers answer; None where none does."""
    try:
        answers = await ask_all(bus.connection, _HEALTH)
    except HeliographError:
        return None
    found = {}
    for answer in answers:
        server, data = answer.get("server") or {}, answer.get("data") or {}
        lacks = "" if data.get("status") == "ok" else str(data.get("error") or data.get("status") or "no status")
        name = str(server.get("name", ""))
        found[name] = ServerState(name, str(server.get("ver", "")), lacks)
    return [found.get(name) or ServerState(name, lacks="it does not answer") for name in names]
