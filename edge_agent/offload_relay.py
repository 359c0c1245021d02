"""Relay hard samples to the cloud's model, and its answers back: at once or not at all, without storing any.

The requester keeps the deadline; it ignores an answer that comes too late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgpack

from heliograph.bus.contract.topics import ANSWER, BIG_MODEL, BIG_MODEL_ANSWER, OFFLOAD
from heliograph.bus.port import Port
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import HeliographError, Unreachable, error_body
from heliograph.core.failures import Failures


class OffloadRelay:
    """Relays between the node's broker and the cloud's."""

    def __init__(self, node: Port, cloud: Port, edge: str, failures: Failures) -> None:
        self._node = node
        self._cloud = cloud
        self._edge = edge
        self._failures = failures

    async def carry_up(self) -> None:
        """Relay samples until cancelled. Each carries the address of its answer, so that the relay keeps no state."""
        async with self._node.bus.subscribe(OFFLOAD.filter()) as messages:
            async for message in messages:
                with self._failures.contain(message.topic):
                    await self._carry_up(message)

    async def carry_down(self) -> None:
        """Relay answers to their requesters until cancelled."""
        async with self._cloud.bus.subscribe(BIG_MODEL_ANSWER.filter(edge=self._edge)) as messages:
            async for message in messages:
                body = message.body
                if message.headers.get("Status") == "503":  # NATS answers so where nobody listens
                    body = _error_body(Unreachable("no worker of the service's deep model is there"))
                with self._failures.contain(message.topic):
                    if (params := BIG_MODEL_ANSWER.match(message.topic)) is not None:
                        await self._answer(params, body)

    async def _carry_up(self, message: Message) -> None:
        require_live(message)
        if (params := OFFLOAD.match(message.topic)) is None:
            return
        answer_to = BIG_MODEL_ANSWER.at(edge=self._edge, **params)
        topic = BIG_MODEL.at(service=params["service"], edge=self._edge)
        try:
            await self._cloud.bus.publish(topic, message.body, reply_to=answer_to, sure=False)
        except HeliographError as error:
            await self._answer({"edge": self._edge, **params}, _error_body(error))

    async def _answer(self, params: Mapping[str, str], body: bytes) -> None:
        with contextlib.suppress(HeliographError):  # the node's broker is away, and the requester with it
            await self._node.bus.publish(ANSWER.at(**params), body, sure=False)


def _error_body(error: HeliographError) -> bytes:
    packed: bytes = msgpack.packb({"error": error_body(error)})
    return packed
