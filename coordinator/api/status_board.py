"""Retained status: publish the newest value of each resource to every door, over MQTT."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.resources import Resource, dump
from heliograph.bus.contract.topics import STATUS
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.world import World

RETRY_AFTER = 0.2
"""Seconds until a publish that failed is tried again."""
ENTRIES_SHOWN = 100
"""Entries to which a list or mapping is cut where the whole status is too large to publish."""
SWEEP_EVERY = 0.05
"""Seconds between two sweeps over changed resources: a round may take less, and nobody reads so fast."""


class StatusBoard:
    """Publishes changed resources to every door, and skips values that a newer one has replaced."""

    def __init__(self, doors: Sequence[Bus], world: World, source: str, warn: Callable[[str], None]) -> None:
        self._doors = doors
        self._world = world
        self._source = source
        self._failures = Failures(warn)
        self._values: dict[str, Resource | None] = {}
        self._due: list[dict[str, None]] = [{} for _ in doors]
        self._wake = [asyncio.Event() for _ in doors]

    def show(self, resource: Resource) -> None:
        """Publish a resource's status on each door as soon as the door can be reached."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), resource)

    def clear(self, resource: Resource) -> None:
        """Remove a deleted resource's status: publish an empty retained message."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), None)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._doors)):
                group.create_task(self._follow_door(number))

    def _set(self, address: str, value: Resource | None) -> None:
        self._values[address] = value
        for due, wake in zip(self._due, self._wake, strict=True):
            due[address] = None
            wake.set()

    async def _follow_door(self, number: int) -> None:
        door, due, wake = self._doors[number], self._due[number], self._wake[number]

        def on_link(up: bool) -> None:  # a broker without a disk has lost all of them at its restart
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
                    await self._world.sleep(RETRY_AFTER)
                except Exception as error:
                    self._failures.add(address, error)
            await self._world.sleep(SWEEP_EVERY)

    def _body(self, address: str) -> bytes:
        resource = self._values[address]
        if resource is None:
            return b""
        tree = public_document(resource)
        body = self._encoded(address, tree)
        if len(body) > STATUS.max_size:  # a task on ten thousand edges; a request for the resource gets all of it
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


def public_document(resource: Resource) -> dict[str, Any]:
    """Return a resource as people see it: weights by digest, without their bytes."""
    tree = dump(resource)
    if _carries_weights(type(resource)):
        _drop_inline(tree)
    return tree


@cache
def _carries_weights(kind: type[Resource]) -> bool:
    """Return whether this kind can carry inline weights. Edges are many and cannot."""
    return '"inline"' in json.dumps(kind.model_json_schema())


def shortened(tree: Any, where: str = "", cut: dict[str, int] | None = None) -> Any:
    """Cut long lists and mappings to their first ``ENTRIES_SHOWN`` entries; ``status.shortened`` maps the path of each
    to its full number of entries."""
    noted: dict[str, int] = {} if cut is None else cut
    if isinstance(tree, (dict, list)) and len(tree) > ENTRIES_SHOWN:
        noted[where] = len(tree)
        tree = dict(islice(tree.items(), ENTRIES_SHOWN)) if isinstance(tree, dict) else tree[:ENTRIES_SHOWN]
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
