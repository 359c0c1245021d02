"""Announcements: events of the coordinator that any client may wait for, on the cloud's NATS and on every door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

from heliograph.bus.contract.event import encode
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import retry_until_reachable

P = TypeVar("P", bound=BaseModel)


class Announcements:
    """Publishes announcements as JSON, for clients in any language.

    Args:
        doors: external MQTT brokers; the embedded broker's MQTT clients hear what is published on NATS.
    """

    def __init__(self, port: Port, doors: Sequence[Bus], failures: Failures) -> None:
        self._port = port
        self._doors = doors
        self._failures = failures

    async def publish(self, topic: Topic[P], payload: P, id: str, **params: str) -> None:
        """Publish until the topic's stream has the event; each door hears it if it can be reached.

        Args:
            id: the event's id, the same each time it is published.
        """
        address = topic.at(**params)
        body = encode(self._port.event(topic, payload, address, id=id, form="json"), "json")
        bus = self._port.bus
        await retry_until_reachable(lambda: bus.publish(address, body), self._port.world, lambda line: None)
        for door in self._doors:
            try:
                await door.publish(address, body)
            except HeliographError as error:  # its clients read the retained status
                self._failures.add(address, error)
