"""Ask all servers of a cluster, by a login of the system account."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from nats.aio.msg import Msg

from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import HeliographError

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the servers that have not answered."""
_PING = "$SYS.REQ.SERVER.PING"


async def ask_all(system: NatsConnection, subject: str, body: bytes = b"") -> list[dict[str, Any]]:
    """Return the answers of all servers that are connected to each other. Raise as ``NatsConnection.request`` does
    where none answers."""
    if not system.clustered:
        return [_tree((await system.request(subject, body)).data)]
    expected = _servers_known_to(_tree((await system.request(_PING)).data))
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(message: Msg) -> None:
        with contextlib.suppress(HeliographError):
            answers.put_nowait(_tree(message.data))

    inbox = system.client.new_inbox()
    subscription = await system.guard(system.client.subscribe(inbox, cb=take))
    found: list[dict[str, Any]] = []
    try:
        await system.guard(system.client.publish(subject, body, reply=inbox))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while len(found) < expected:
                    found.append(await answers.get())
    finally:
        await system.unsubscribe(subscription)
    return found


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


def _tree(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HeliographError("the broker's answer to its system account cannot be read")
    return found
