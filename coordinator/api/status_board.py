"""The doors' retained status: the last value of each resource, published by an MQTT connection, newest only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.resources import Resource, dump
from heliograph.bus.contract.topics import STATUS
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.world import World

AGAIN = 0.2
SHOWN = 100
"""Entries of a list or mapping in a status that would be too large to publish."""
AT_MOST_EVERY = 0.05
"""Seconds between two sweeps: a round may take less, and nobody reads so fast."""


class StatusBoard:
    """Publishes changed resources to every door. A value that a newer one has overtaken is not sent."""

    def __init__(self, doors: Sequence[Bus], world: World, source: str) -> None:
        self._doors = doors
        self._world = world
        self._source = source
        self._values: dict[str, Resource | None] = {}
        self._due: list[dict[str, None]] = [{} for _ in doors]
        self._wake = [asyncio.Event() for _ in doors]

    def show(self, resource: Resource) -> None:
        """Set a resource's status on every door, as soon as that door can be reached."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), resource)

    def clear(self, resource: Resource) -> None:
        """Remove a deleted resource's status: an empty retained message does so."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), None)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._doors)):
                group.create_task(self._serve(number))

    def _set(self, address: str, value: Resource | None) -> None:
        self._values[address] = value
        for due, wake in zip(self._due, self._wake, strict=True):
            due[address] = None
            wake.set()

    async def _serve(self, number: int) -> None:
        door, due, wake = self._doors[number], self._due[number], self._wake[number]

        def on_link(up: bool) -> None:  # a broker that keeps nothing over its restart has lost all of them
            if up:
                due.update(dict.fromkeys(self._values))
                wake.set()

        door.link.listen(on_link)
        try:
            await self._publish(door, due, wake)
        finally:
            door.link.forget(on_link)

    async def _publish(self, door: Bus, due: dict[str, None], wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            while due:
                await door.link.wait_up()
                address = next(iter(due))
                del due[address]
                try:
                    await door.publish(address, self._body(address), retain=True)
                except HeliographError:
                    due.setdefault(address)
                    await self._world.sleep(AGAIN)
            await self._world.sleep(AT_MOST_EVERY)

    def _body(self, address: str) -> bytes:
        resource = self._values[address]
        if resource is None:
            return b""
        tree = public(resource)
        body = self._encoded(address, tree)
        if len(body) > STATUS.max_size:  # a task on ten thousand edges; who wants all of it asks for the resource
            body = self._encoded(address, shortened(tree))
        return body

    def _encoded(self, address: str, tree: dict[str, Any]) -> bytes:
        event = Event(
            id=self._world.new_id(),
            source=self._source,
            type=STATUS.type,
            data=tree,
            time=self._world.timestamp(),
            subject=address,
        )
        return encode(event, "json")


def public(resource: Resource) -> dict[str, Any]:
    """A resource as people see it: weights by digest, never their bytes."""
    tree = dump(resource)
    if _bears_weights(type(resource)):
        _drop_inline(tree)
    return tree


@cache
def _bears_weights(kind: type[Resource]) -> bool:
    """Whether resources of this kind may hold a model's bytes. Edges may not, and there are many of them."""
    return '"inline"' in json.dumps(kind.model_json_schema())


def shortened(tree: Any, where: str = "", cut: dict[str, int] | None = None) -> Any:
    """Cut the long lists and mappings of a resource to their first entries; ``status.shortened`` names each, with its
    number of entries."""
    noted: dict[str, int] = {} if cut is None else cut
    if isinstance(tree, (dict, list)) and len(tree) > SHOWN:
        noted[where] = len(tree)
        tree = dict(islice(tree.items(), SHOWN)) if isinstance(tree, dict) else tree[:SHOWN]
    if isinstance(tree, dict):
        tree = {key: shortened(value, f"{where}.{key}".lstrip("."), noted) for key, value in tree.items()}
    elif isinstance(tree, list):
        tree = [shortened(value, where, noted) for value in tree]
    if cut is None:
        tree["status"] = {**tree.get("status", {}), "shortened": noted}
    return tree


def _drop_inline(tree: dict[str, Any] | list[Any]) -> None:
    if isinstance(tree, dict):
        tree.pop("inline", None)
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, (dict, list)):
            _drop_inline(value)
