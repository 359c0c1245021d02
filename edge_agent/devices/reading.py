"""The event of a device's message.

A device's payload becomes the data of an event of this node. An event in which the device names itself as the source is
kept as it was written. Any other event is data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.event import Event, encode, from_tree, is_event
from heliograph.bus.contract.topics import TELEMETRY
from heliograph.core.errors import Refused
from heliograph.core.names import is_label
from heliograph.core.world import World
from heliograph.edge_agent.devices.content import Content, content_of
from heliograph.edge_agent.devices.mapping import TELEMETRY as PLAIN
from heliograph.edge_agent.devices.mapping import DeviceMapping, Placed
from heliograph.edge_agent.devices.message import DeviceMessage
from heliograph.edge_agent.journal_writer import NewEvent

if TYPE_CHECKING:
    from heliograph.edge_agent.devices.own_events import OwnEvent


class DeviceReading:
    """Makes events of messages.

    Args:
        own: takes the events that a device has numbered.
        unplaced: called with each topic that stands for no device.
        unreadable: called with each device whose own event cannot be read.
    """

    def __init__(
        self, root: str, edge: str, mapping: DeviceMapping, world: World, own: Callable[[OwnEvent], NewEvent | None],
        unplaced: Callable[[str], None], unreadable: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._root = f"{root}/"
        self._edge = edge
        self._mapping = mapping
        self._world = world
        self._own = own
        self._unplaced = unplaced
        self._unreadable = unreadable

    def event_of(self, message: DeviceMessage) -> NewEvent | None:
        """Return what is journalled of a message; see ``intake.Reading``."""
        placed = self._mapping.place(message.topic)
        if placed is None:
            self._unplaced(message.topic)
            return None
        if len(message.body) > TELEMETRY.max_size:
            raise _too_large(message.topic, len(message.body))
        address = TELEMETRY.at(edge=self._edge, device=placed.device)
        content = content_of(message.body, placed.content_type or message.content_type)
        if is_event(content.data) and self._names_itself(content.data.get("source"), placed.device):
            try:
                event = from_tree(content.data, address)
            except Refused:
                self._unreadable(placed.device)
            else:
                return self._of_device(event, content.data, message, placed.device, address)
        return self._wrapped(content, message.topic, placed, address)

    def _names_itself(self, source: object, device: str) -> bool:
        """Return whether a source is ``<edge>/<device>/<incarnation>``."""
        words = source.split("/") if isinstance(source, str) else []
        return len(words) == 3 and words[:2] == [self._edge, device] and is_label(words[2])

    def _of_device(
        self, event: Event, tree: dict[str, Any], message: DeviceMessage, device: str, address: str
    ) -> NewEvent | None:
        if event.sequence is None:
            return NewEvent(address, message.body, TELEMETRY.lane)
        from heliograph.edge_agent.devices.own_events import OwnEvent

        incarnation = event.source.rpartition("/")[2]
        return self._own(OwnEvent(device, incarnation, event.sequence, address, tree, message.body, message.id > 0))

    def _wrapped(self, content: Content, topic: str, placed: Placed, address: str) -> NewEvent:
        """Return the event of a payload. Raise Refused where it would be larger than the cloud takes."""
        event = Event(
            id=self._world.new_id(),
            source=f"{self._edge}/{placed.device}/mqtt",
            type=TELEMETRY.type if placed.event == PLAIN else f"{TELEMETRY.type}.{placed.event}",
            data=content.data,
            time=self._world.timestamp(),
            subject=topic.removeprefix(self._root),
            content_type=content.type,
        )
        body = encode(event)
        if len(body) > TELEMETRY.max_size:
            raise _too_large(topic, len(body))
        return NewEvent(address, body, TELEMETRY.lane)


def _too_large(topic: str, size: int) -> Refused:
    return Refused("too-large", topic=topic, expected=f"at most {TELEMETRY.max_size} bytes, with its attributes",
                   got=f"{size} bytes")  # fmt: skip
