"""Hard samples on their way to the cloud's model, and its answers back: at once or not at all, nothing is kept.

Whoever asks holds the deadline, so that an answer that comes too late here is nobody's.
"""

from __future__ import annotations

import contextlib

import msgpack

from heliograph.bus.errors import HeliographError, Refused
from heliograph.bus.keep import Background
from heliograph.bus.port import Port
from heliograph.bus.topics import ANSWER, BIG_MODEL, OFFLOAD
from heliograph.bus.transport import Message

MOST_UNDER_WAY = 1024
MOST_BYTES = 64 * 1024 * 1024
"""Requests, and their bytes, that wait for the cloud; further ones are told so at once."""
LONGEST = 30.0
"""Seconds after which no answer is expected any more."""


class OffloadRelay:
    """Relays between the node's broker and the cloud's."""

    def __init__(self, node: Port, cloud: Port, edge: str, background: Background) -> None:
        self._node = node
        self._cloud = cloud
        self._edge = edge
        self._background = background
        self._under_way = 0
        self._bytes = 0

    async def run(self) -> None:
        async with self._node.bus.subscribe(OFFLOAD.filter()) as messages:
            async for message in messages:
                if (params := OFFLOAD.match(message.topic)) is not None:
                    self._take(message, params)

    def _take(self, message: Message, params: dict[str, str]) -> None:
        size = len(message.body)
        if self._under_way >= MOST_UNDER_WAY or self._bytes + size > MOST_BYTES:
            refused = Refused("overloaded", topic=message.topic, expected="fewer requests on their way to the cloud",
                              got=f"{self._under_way} of them")  # fmt: skip
            self._background.spawn(self._answer(params, _error_body(refused)))
            return
        self._under_way += 1
        self._bytes += size
        self._background.spawn(self._relay(message.body, params))

    async def _relay(self, body: bytes, params: dict[str, str]) -> None:
        topic = BIG_MODEL.at(service=params["service"], edge=self._edge)
        try:
            answer = (await self._cloud.bus.request(topic, body, LONGEST)).body
        except HeliographError as error:
            answer = _error_body(error)
        finally:
            self._under_way -= 1
            self._bytes -= len(body)
        await self._answer(params, answer)

    async def _answer(self, params: dict[str, str], body: bytes) -> None:
        with contextlib.suppress(HeliographError):  # the node's broker is away, and with it who asked
            await self._node.bus.publish(ANSWER.at(**params), body, sure=False)


def _error_body(error: HeliographError) -> bytes:
    known = error.as_dict() if isinstance(error, Refused) else {"code": "unreachable", "message": str(error)}
    packed: bytes = msgpack.packb({"error": known})
    return packed
