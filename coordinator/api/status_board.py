"""Retained status: publish the newest value of each resource to every door, over MQTT."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.resources import Resource, dump
from heliograph.bus.contract.topics import STATUS
from heliograph.bus.transport import Bus
from heliograph.core.breaks import Breaks
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.world import World

RETRY_AFTER = 0.2
"""Seconds until a publish that failed is tried again."""
ENTRIES_SHOWN = 100
"""Entries to which a list or mapping is cut where the whole status is too large to publish."""
ENTRIES_WRITTEN = 4096
"""Entries of a list or mapping from which the whole status is too large anyway, or nearly so."""
CHARACTERS_SHOWN = 1000
"""Characters to which a text is cut then."""
_IDENTITY = ("name", "uid", "generation", "resourceVersion", "creationTimestamp")
"""Fields of the metadata that even the shortest status has."""
LARGE = 16 << 10
"""Bytes from which a status waits until the small ones are published."""
SMALL_BETWEEN = 16
"""Small statuses that go before the next large one at most, so that large ones come too."""
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
        self._due = [_Due() for _ in doors]
        self._wake = [asyncio.Event() for _ in doors]
        self._listener: Callable[[Resource], None] = lambda resource: None

    def listen(self, changed: Callable[[Resource], None]) -> None:
        """Call ``changed`` with each resource that is shown or cleared."""
        self._listener = changed

    def show(self, resource: Resource) -> None:
        """Publish a resource's status on each door as soon as the door can be reached."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), resource)
        self._listener(resource)

    def clear(self, resource: Resource) -> None:
        """Remove a deleted resource's status: publish an empty retained message."""
        self._set(STATUS.at(resource=resource.plural, name=resource.name), None)
        self._listener(resource)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._doors)):
                group.create_task(self._follow_door(number))

    def _set(self, address: str, value: Resource | None) -> None:
        self._values[address] = value
        for due, wake in zip(self._due, self._wake, strict=True):
            due.add(address)
            wake.set()

    async def _follow_door(self, number: int) -> None:
        door, due, wake = self._doors[number], self._due[number], self._wake[number]

        def on_link(up: bool) -> None:  # a broker without a disk has lost all of them at its restart
            if up:
                for address in self._values:
                    due.add(address)
                wake.set()

        door.link.listen(on_link)
        try:
            await self._publish(door, due, wake)
        finally:
            door.link.forget(on_link)

    async def _publish(self, door: Bus, due: _Due, wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            breaks = Breaks(self._world)
            while due:
                await door.link.wait_up()
                address = due.pop()
                try:
                    await breaks.take()
                    body = self._body(address)
                    if due.postpone(address, len(body)):
                        continue
                    await door.publish(address, body, retain=True)
                    if not body:
                        self._forget_removed(address)
                except Refused as error:  # it would be refused again: the next value may not
                    self._failures.add(address, error)
                except HeliographError:
                    due.add(address)
                    await self._world.sleep(RETRY_AFTER)
                except Exception as error:
                    self._failures.add(address, error)
            await self._world.sleep(SWEEP_EVERY)

    def _forget_removed(self, address: str) -> None:
        """Forget a removed status once every door has heard of it: names come and go."""
        if self._values.get(address) is None and not any(address in due for due in self._due):
            self._values.pop(address, None)

    def _body(self, address: str) -> bytes:
        """Return the event of an address's newest value. One that is too large is cut until it fits; a request for the
        resource returns all of it."""
        resource = self._values.get(address)
        if resource is None:
            return b""
        return _fitting(resource, STATUS.max_size, partial(self._encoded, address))

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


def public_json(resource: Resource) -> bytes:
    """Return ``public_document`` as JSON."""
    return resource.model_dump_json(
        by_alias=True, exclude_none=True, exclude=_inline_fields(type(resource))
    ).encode()


def cut_to(resource: Resource, most: int) -> bytes:
    """Return the public document as JSON of at most ``most`` bytes: cut, where all of it is larger, as a status is."""
    return _fitting(resource, most, lambda tree: json.dumps(tree).encode())


def _fitting(resource: Resource, most: int, encode: Callable[[dict[str, Any]], bytes]) -> bytes:
    trimmed, noted = _trimmed(resource)
    tree = public_document(trimmed)
    for cut in (ENTRIES_SHOWN, ENTRIES_SHOWN // 10, 1) if noted else (None, ENTRIES_SHOWN, ENTRIES_SHOWN // 10, 1):
        body = encode(tree if cut is None else shortened(tree, cut, noted))
        if len(body) <= most:
            return body
    metadata = {key: tree["metadata"][key] for key in _IDENTITY if key in tree["metadata"]}
    phase = {key: value for key, value in tree.get("status", {}).items() if key == "phase"}
    return encode({**tree, "metadata": metadata, "spec": {}, "status": {**phase, "shortened": {"spec": len(body)}}})


def public_document(resource: Resource) -> dict[str, Any]:
    """Return a resource as people see it: weights by digest, without their bytes."""
    return dump(resource, without=_inline_fields(type(resource)))


@cache
def _inline_fields(part: Any, above: frozenset[type] = frozenset()) -> dict[str, Any] | None:
    """Return the fields with inline weights of a model or of a field's type, as pydantic's ``exclude``."""
    if isinstance(part, type) and issubclass(part, BaseModel):
        if part in above:
            return None
        types: dict[str, Any] = {name: field.annotation for name, field in part.model_fields.items()}
        fields = {name: True if name == "inline" else _inline_fields(each, above | {part})
                  for name, each in types.items()}  # fmt: skip
        return {name: found for name, found in fields.items() if found} or None
    inner: dict[str, Any] = {}
    for each in get_args(part):
        inner |= _inline_fields(each, above) or {}
    return {"__all__": inner} if inner and get_origin(part) in (list, tuple, dict) else inner or None


def _trimmed(resource: Resource) -> tuple[Resource, dict[str, int]]:
    """Return a resource without most of the entries of lists and mappings that no status has room for, and by path how
    many there are: writing all of them out would take long."""
    noted: dict[str, int] = {}
    changes: dict[str, Any] = {}
    for place in ("spec", "status"):
        part = getattr(resource, place)
        cut: dict[str, Any] = {}
        for name, field in type(part).model_fields.items():
            value = getattr(part, name)
            if isinstance(value, (list, dict)) and len(value) > ENTRIES_WRITTEN:
                noted[f"{place}.{field.alias or name}"] = len(value)
                cut[name] = _head(value, ENTRIES_SHOWN)
        if cut:
            changes[place] = part.model_copy(update=cut)
    return (resource.model_copy(update=changes) if changes else resource), noted


def shortened(tree: Any, entries: int = ENTRIES_SHOWN, known: Mapping[str, int] = MappingProxyType({})) -> Any:
    """Cut long lists and mappings to their first ``entries``, and long texts to ``CHARACTERS_SHOWN``;
    ``status.shortened`` maps the path of each to its full number of entries or characters.

    Args:
        known: full numbers of entries of those that ``tree`` has only in part.
    """
    noted: dict[str, int] = {}
    short = _shortened(tree, "", entries, noted)
    noted = {**noted, **known}
    short["status"] = {**short.get("status", {}), "shortened": dict([*noted.items()][:ENTRIES_SHOWN])}
    return short


def _shortened(tree: Any, where: str, entries: int, noted: dict[str, int]) -> Any:
    if isinstance(tree, str):
        if len(tree) > CHARACTERS_SHOWN:
            noted[where] = len(tree)
        return tree[:CHARACTERS_SHOWN]
    if isinstance(tree, (dict, list)) and len(tree) > entries and "." in where:  # not metadata, spec and status
        noted[where] = len(tree)
        tree = _head(tree, entries)
    if isinstance(tree, dict):
        return {key: _shortened(value, f"{where}.{key}".lstrip("."), entries, noted) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_shortened(value, where, entries, noted) for value in tree]
    return tree


def _head(value: dict[str, Any] | list[Any], entries: int) -> dict[str, Any] | list[Any]:
    return dict(islice(value.items(), entries)) if isinstance(value, dict) else value[:entries]


class _Due:
    """Addresses whose newest value one door has not got, in the order of their turns: small values first, since
    people wait for them, with a large one after every few of them."""

    def __init__(self) -> None:
        self._small: dict[str, None] = {}
        self._large: dict[str, None] = {}
        self._were_large: set[str] = set()
        """Addresses whose last value was large; their next is expected to be."""
        self._since_large = 0

    def __bool__(self) -> bool:
        return bool(self._small or self._large)

    def __contains__(self, address: str) -> bool:
        return address in self._small or address in self._large

    def add(self, address: str) -> None:
        if address not in self:
            (self._large if address in self._were_large else self._small)[address] = None

    def pop(self) -> str:
        """Remove the next address, and return it."""
        take_large = self._large and (not self._small or self._since_large >= SMALL_BETWEEN)
        self._since_large = 0 if take_large else self._since_large + 1
        chosen = self._large if take_large else self._small
        address = next(iter(chosen))
        del chosen[address]
        return address

    def postpone(self, address: str, size: int) -> bool:
        """Return whether a value that came as a small one is large, and waits with the large ones now."""
        was = address in self._were_large
        if size < LARGE:
            self._were_large.discard(address)
            return False
        self._were_large.add(address)
        if was or not self._small:
            return False
        self._large[address] = None
        self._since_large -= 1  # it was no small one
        return True
