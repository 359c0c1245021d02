"""Following one job on a cluster of this machine as an operator does: its documents, its updates, its edges."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import MODEL_UPDATE, STATUS
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.local.display import Display

OFFER_TIMEOUT = 60.0
"""Seconds without any progress after which nobody waits any longer for what the nodes offer."""
POLL = 5.0
"""Seconds after which the offers are read again where no change is told: a status message may be lost."""
SHORT = 2.0
"""Seconds after which a wait for scripts is worth a line, and their edges are read again."""
LEADER_TIMEOUT = 300.0
"""Seconds that a command waits for the next leader of its own cluster, whose processes start again by themselves."""


async def follow_job(
    client: AsyncClient, name: str, display: Display, seen: Callable[[Mapping[str, Any]], None] = lambda document: None
) -> dict[str, Any]:
    """Show a job until it has ended and return its last document; call ``seen`` with each document too."""
    document: dict[str, Any] = {}
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(_follow_updates(client, name, display)),
            group.create_task(_follow_edges(client, display)),
        ]
        async for document in client.jobs.watch(name):
            display.document(document)
            seen(document)
        for task in watching:
            task.cancel()
    return document


async def wait_for_scripts(client: AsyncClient, doing: Callable[[str], None]) -> None:
    """Wait until no node that is online has a worker: a script may run on after its loop, to save its results.

    The agents end those that take too long. ``doing`` is called where it takes a while.
    """
    said: list[str] = []
    async with client.bus.subscribe(STATUS.filter(resource="edges")) as changes:
        while busy := [each["metadata"]["name"] for each in await client.edges.list()
                       if each["status"].get("online") and each["status"].get("workers")]:  # fmt: skip
            try:
                async with asyncio.timeout(SHORT):
                    await anext(changes)
            except TimeoutError:
                if busy != said:
                    doing(f"waiting for the scripts of {_some(busy)} to end")
                    said = busy


@dataclass(frozen=True)
class _Awaited:
    """What the coordinator does not know yet.

    Attributes:
        algorithms: whether the cloud's algorithms are missing.
        unread: the nodes with data sets that are missing or still read.
        read: bytes that those nodes have read so far, as they tell.
    """

    algorithms: bool
    unread: tuple[str, ...]
    read: int

    def __bool__(self) -> bool:
        return self.algorithms or bool(self.unread)

    def sentence(self) -> str:
        if not self.unread:
            return "waiting for the cloud's workers"
        return f"waiting for the data of {_some(self.unread)}" + (f": {self.read >> 20} MB read" if self.read else "")


def _some(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")


async def wait_for_offers(
    client: AsyncClient, datasets: Mapping[str, Mapping[str, Any]], doing: Callable[[str], None] = lambda what: None
) -> None:
    """Wait until the coordinator knows the cloud's algorithms and the data sets of each node.

    A job created earlier would be pending, or, if it takes any edge, would start without some of them. A large file is
    waited for as long as its agent gets on with reading it; ``doing`` is called with each step.

    Raise HeliographError, with the agent's own sentence, where it cannot read a data set; or where nothing gets on.
    """
    async with client.bus.subscribe(STATUS.filter()) as changes:
        clock = asyncio.get_running_loop().time
        before, since = None, clock()
        while awaited := await _awaited(client, datasets):
            if awaited != before:
                if before is not None:
                    doing(awaited.sentence())
                before, since = awaited, clock()
            elif clock() - since > OFFER_TIMEOUT:
                raise HeliographError(f"{awaited.sentence()}: nothing has changed for {OFFER_TIMEOUT:g} s; "
                                      "is the machine too busy? Take fewer edges, or try again")  # fmt: skip
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await anext(changes)


async def _awaited(client: AsyncClient, datasets: Mapping[str, Mapping[str, Any]]) -> _Awaited:
    algorithms = {edge for each in await client.algorithms.list() for edge in each["status"].get("edges", ())}
    indexes = {(edge, each["metadata"]["name"]): index for each in await client.datasets.list()
               for edge, index in each["status"].get("edges", {}).items()}  # fmt: skip
    unread, read = [], 0
    for node, named in datasets.items():
        for name in named:
            index = indexes.get((node, name))
            if index is not None and index.get("error") and not index.get("read"):
                raise HeliographError(f"{node}: data set {name}: {index['error']}")
            if index is None or index.get("read"):
                unread.append(node)
                read += index.get("read", 0) if index is not None else 0
    return _Awaited(CLOUD not in algorithms, tuple(dict.fromkeys(unread)), read)


def failure(document: Mapping[str, Any]) -> str:
    """Return why a job has not succeeded; empty if it has."""
    status = document.get("status", {})
    if status.get("phase") == "Succeeded":
        return ""
    found = [each for each in status.get("conditions", ()) if each["type"] == "Complete"]
    return "; ".join(each.get("message") or each["reason"] for each in found) or f"the job is {status.get('phase')}"


async def _follow_updates(client: AsyncClient, name: str, display: Display) -> None:
    port = Port(client.bus, World(), "cloud/display/1")

    def refused(error: Refused) -> None:
        display.note(str(error), good=False)

    async with port.subscribe(MODEL_UPDATE, refused, job=name) as updates:
        async for each in updates:
            display.uploaded(each.params["edge"], each.payload.round, each.payload.weights.size)


async def _follow_edges(client: AsyncClient, display: Display) -> None:
    try:
        async with client.bus.subscribe(STATUS.filter(resource="edges")) as changes:
            for edge in await client.edges.list():
                _show_link(edge, display)
            async for message in changes:
                if message.body:
                    _show_link(decode(message.body, message.topic).data, display)
    except HeliographError as error:  # an error beside the job does not end it
        display.note(str(error), good=False)


def _show_link(edge: Mapping[str, Any], display: Display) -> None:
    display.link(edge["metadata"]["name"], "up" if edge.get("status", {}).get("online") else "offline")
