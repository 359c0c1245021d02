"""Following one job on a cluster of this machine as an operator does: its documents, its updates, its edges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import MODEL_UPDATE, STATUS
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.local.display import Display

OFFER_TIMEOUT = 15.0


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


async def wait_for_offers(client: AsyncClient, datasets: Mapping[str, Mapping[str, Any]]) -> None:
    """Wait until the coordinator knows the cloud's algorithms and the data sets of each node.

    A job created earlier would be pending, or, if it takes any edge, would start without some of them.
    """
    async with asyncio.timeout(OFFER_TIMEOUT), client.bus.subscribe(STATUS.filter()) as changes:
        while not await _offered(client, datasets):
            await anext(changes)


async def _offered(client: AsyncClient, datasets: Mapping[str, Mapping[str, Any]]) -> bool:
    algorithms = {edge for each in await client.algorithms.list() for edge in each["status"].get("edges", ())}
    indexed = {(edge, each["metadata"]["name"])
               for each in await client.datasets.list() for edge in each["status"].get("edges", {})}  # fmt: skip
    return CLOUD in algorithms and all((node, name) in indexed for node, named in datasets.items() for name in named)


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
