"""Ask all servers of a cluster, and those of sites, by a login of the system account."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg

from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import HeliographError

ANSWER_TIMEOUT = 1.0
"""Seconds to wait for the servers that have not answered."""
_PING = "$SYS.REQ.SERVER.PING"


async def ask_all(system: NatsConnection, subject: str, body: bytes = b"") -> list[dict[str, Any]]:
    """Return the answers of all servers that are connected to each other, and of those of sites. Raise as
    ``NatsConnection.request`` does where none answers."""
    known = await _known(system)
    if known == 1:
        return [_tree((await system.request(subject, body)).data)]
    return await _gathered(system, subject, body, lambda found: len(found) >= known)


async def server_ids(system: NatsConnection) -> set[str]:
    """Return the ids of the servers of a cluster, without those of sites."""
    known = await _in_cluster(system)
    answers = await _gathered(system, _PING, b"", lambda found: len(_clustered(found)) >= known)
    return _clustered(answers)


def server_of(answer: dict[str, Any]) -> str:
    """Return the id of the server that has sent an answer or an event; empty where it names none."""
    named = answer.get("server")
    return str((named if isinstance(named, dict) else answer).get("id", ""))


async def _known(system: NatsConnection) -> int:
    """Return how many servers there are: those of the cluster, and those of sites, of which each knows its own."""
    own = f"$SYS.REQ.SERVER.{system.server_id}"
    if not system.clustered:
        return 1 + len(_sites_in(_tree((await system.request(f"{own}.LEAFZ")).data)))
    servers = await _in_cluster(system)
    answers = await _gathered(system, f"{_PING}.LEAFZ", b"", lambda found: sum(map(_is_no_site, found)) >= servers)
    return servers + len({site for answer in answers for site in _sites_in(answer)})


async def _gathered(
    system: NatsConnection, subject: str, body: bytes, all_there: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:  # fmt: skip
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
                while not all_there(found):
                    found.append(await answers.get())
    finally:
        await system.unsubscribe(subscription)
    return found


def _leafs_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    data = answer.get("data")
    leafs = data.get("leafs") if isinstance(data, dict) else None
    return [each for each in leafs if isinstance(each, dict)] if isinstance(leafs, list) else []


def _sites_in(answer: dict[str, Any]) -> set[str]:
    """Return the names of the servers of sites that are connected to a server, each by several links."""
    return {str(each.get("name")) for each in _leafs_of(answer) if not each.get("is_spoke")}


def _is_no_site(answer: dict[str, Any]) -> bool:
    return not any(each.get("is_spoke") for each in _leafs_of(answer))


async def _in_cluster(system: NatsConnection) -> int:
    """Return how many servers of the cluster the one that was reached knows, itself too."""
    answer = _tree((await system.request(f"$SYS.REQ.SERVER.{system.server_id}.STATSZ")).data)
    routes = (answer.get("statsz") or {}).get("routes") or []
    return len({each.get("name") for each in routes}) + 1


def _clustered(answers: list[dict[str, Any]]) -> set[str]:
    return {server_of(each) for each in answers if (each.get("server") or {}).get("cluster")}


def _tree(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HeliographError("the broker's answer to its system account cannot be read")
    return found
