"""Typed publish and subscribe: a port publishes payload models and yields validated payloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel

from heliograph.bus.contract.event import Event, Form, decode, encode, is_signed
from heliograph.bus.contract.event_signature import check_event_signature
from heliograph.bus.contract.topics import Topic
from heliograph.bus.transport import Bus, Message, require_live
from heliograph.core.errors import Refused
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.core.ed25519_signer import Ed25519Signer

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Received(Generic[P]):
    """A message with its event and its validated payload; ``params`` are the parameters of its address."""

    message: Message
    event: Event
    payload: P
    params: dict[str, str]

    def check_signed(self, key: bytes, by: str) -> None:
        """Raise Refused unless the event was signed with ``key``, for the address that it came on.

        Args:
            by: who has the key, for the error.
        """
        check_signed(self.event, self.message, key, by)

    def check_signature(self, trusted: Collection[bytes], by: str) -> None:
        """Raise Refused unless one of these public keys has signed the event; see ``check_event_signature``."""
        check_event_signature(self.event, self.message.body, self.message.topic, trusted, by)


def check_signed(event: Event, message: Message, key: bytes, by: str) -> None:
    """See ``Received.check_signed``. Whoever reaches a node's broker can publish a signed event again, on any topic."""
    if not is_signed(message.body, key):
        raise Refused("forged", topic=message.topic, field="mac", expected=f"the signature of {by}",
                      got="another or none")  # fmt: skip
    if event.subject != message.topic:
        raise Refused("forged", topic=message.topic, field="subject", expected=message.topic, got=event.subject)


class Port:
    """Publishes and receives events on a bus under one source, ``<edge>/<component>/<incarnation>``."""

    def __init__(self, bus: Bus, world: World, source: str) -> None:
        self.bus = bus
        self.world = world
        self.source = source

    def event(
        self,
        topic: Topic[P],
        payload: P,
        address: str,
        *,
        id: str = "",
        sequence: int | None = None,
        form: Form = "msgpack",
        without: Mapping[str, Any] | None = None,
    ) -> Event:
        """Return a new event of the topic.

        Args:
            id: identity of the event, for a fact that must have the same one each time it is published.
            form: encoding that the event's data are for; JSON has no bytes.
            without: fields to leave out because the reader does not know them, as pydantic's ``exclude``.
        """
        return Event(
            id=id or self.world.new_id(),
            source=self.source,
            type=topic.type,
            data=payload.model_dump(mode="json" if form == "json" else "python", exclude_none=True, exclude=without),
            time=self.world.timestamp(),
            subject=address,
            sequence=sequence,
        )

    async def publish(
        self,
        topic: Topic[P],
        payload: P,
        *rest: str,
        id: str = "",
        form: Form = "msgpack",
        headers: Mapping[str, str] | None = None,
        sure: bool = True,
        without: Mapping[str, Any] | None = None,
        key: bytes | None = None,
        signer: Ed25519Signer | None = None,
        **params: str,
    ) -> int:
        """Publish an event; see ``Bus.publish`` for the result and the errors, ``event`` for ``id`` and ``without``,
        ``encode`` for ``key`` and ``signer``."""
        address = topic.at(*rest, **params)
        event = self.event(topic, payload, address, id=id, form=form, without=without)
        return await self.bus.publish(address, encode(event, form, key, signer), headers=headers, sure=sure)

    def read(self, topic: Topic[P], message: Message) -> Received[P]:
        """Decode and validate a message of the topic. Raises Refused naming its topic and the wrong field; also where
        the message is retained and the topic is not."""
        if message.retained and not topic.retained:
            require_live(message)
        params = topic.match(message.topic)
        if params is None:
            raise Refused("unknown-topic", topic=message.topic, expected=topic.pattern)
        event = decode(message.body, message.topic)
        return Received(message, event, topic.validate(event.data, message.topic), params)

    @asynccontextmanager
    async def subscribe(
        self, topic: Topic[P], refused: Callable[[Refused], None], **params: str
    ) -> AsyncIterator[AsyncIterator[Received[P]]]:
        """Subscribe to a topic: iterate over the valid messages from now on, and pass the error of each other one to
        ``refused``."""
        async with self.bus.subscribe(topic.filter(**params)) as messages:
            yield _Validated(self, topic, messages, refused)


class _Validated(AsyncIterator[Received[P]]):
    def __init__(
        self, port: Port, topic: Topic[P], messages: AsyncIterator[Message], refused: Callable[[Refused], None]
    ) -> None:
        self._port = port
        self._topic = topic
        self._messages = messages
        self._refused = refused

    async def __anext__(self) -> Received[P]:
        while True:
            message = await anext(self._messages)
            try:
                return self._port.read(self._topic, message)
            except Refused as error:
                self._refused(error)
