"""Ask all servers of a cluster, by a login of the system account."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection
from typing import Any

from nats.aio.msg import Msg

from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import HeliographError

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the servers that have not answered."""
SITE = "site-"
"""Beginning of the name of a site's server."""
_PING = "$SYS.REQ.SERVER.PING"


async def ask_all(system: NatsConnection, subject: str, body: bytes = b"") -> list[dict[str, Any]]:
    """Return the answers of all servers that are connected to each other, those of sites too. Raise as
    ``NatsConnection.request`` does where none answers."""
    servers = 1
    if system.clustered:
        servers = _servers_known_to(await _own(system, "STATSZ"))
        leafs = [leaf for each in await _gather(system, f"{_PING}.LEAFZ", b"", servers) for leaf in _leafs(each)]
    else:
        leafs = _leafs(await _own(system, "LEAFZ"))
    sites = {name for name in leafs if name.startswith(SITE)}
    if servers == 1 and not sites:
        return [_tree((await system.request(subject, body)).data)]
    return await _gather(system, subject, body, servers, sites)


async def _gather(
    system: NatsConnection, subject: str, body: bytes, servers: int, sites: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the answers that come until so many of the cloud's servers, and these of sites, have answered, or until
    ``ANSWER_TIMEOUT``."""
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(message: Msg) -> None:
        with contextlib.suppress(HeliographError):
            answers.put_nowait(_tree(message.data))

    inbox = system.client.new_inbox()
    subscription = await system.guard(system.client.subscribe(inbox, cb=take))
    found: list[dict[str, Any]] = []
    left = set(sites)
    try:
        await system.guard(system.client.publish(subject, body, reply=inbox))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while servers > 0 or left:
                    answer = await answers.get()
                    found.append(answer)
                    name = _name_of(answer)
                    left.discard(name)
                    servers -= not name.startswith(SITE)
    finally:
        await system.unsubscribe(subscription)
    return found


async def _own(system: NatsConnection, what: str) -> dict[str, Any]:
    """Ask the server that this connection leads to."""
    return _tree((await system.request(f"$SYS.REQ.SERVER.{system.server_id}.{what}")).data)


async def server_ids(system: NatsConnection) -> set[str]:
    """Return the ids of all servers that are connected to each other."""
    return {server_of(answer) for answer in await ask_all(system, _PING + ".IDZ")}


def server_of(answer: dict[str, Any]) -> str:
    """Return the id of the server that has sent an answer or an event; empty where it names none."""
    named = answer.get("server")
    return str((named if isinstance(named, dict) else answer).get("id", ""))


def _servers_known_to(answer: dict[str, Any]) -> int:
    routes = (answer.get("statsz") or {}).get("routes") or []
    return len({each.get("name") for each in routes}) + 1


def _leafs(answer: dict[str, Any]) -> list[str]:
    """Return the names of the servers that are connected to one as leaf nodes."""
    leafs = (answer.get("data") or {}).get("leafs") or []
    return [str(each.get("name", "")) for each in leafs if isinstance(each, dict)]


def _name_of(answer: dict[str, Any]) -> str:
    named = answer.get("server")
    return str(named.get("name", "")) if isinstance(named, dict) else ""


def _tree(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HeliographError("the broker's answer to its system account cannot be read")
    return found
