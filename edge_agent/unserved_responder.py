"""Answer inference requests that no worker of this node serves, so that their senders need not wait."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import msgpack

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.topics import INFERENCE_REQUEST
from heliograph.bus.port import Port
from heliograph.bus.reply import reply_of
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import HeliographError, Refused, error_body


class UnservedResponder:
    """Follows every request on the node's broker.

    Args:
        served: returns the services whose workers on this node are ready.
        refused: called with (topic, error) where the sender has no reply address, or its message was not handled.
    """

    def __init__(self, node: Port, served: Callable[[], set[str]], refused: Callable[[str, Exception], None]) -> None:
        self._node = node
        self._served = served
        self._refused = refused

    async def run(self) -> None:
        """Answer until cancelled."""
        async with self._node.bus.subscribe(INFERENCE_REQUEST.filter()) as messages:
            async for message in messages:
                try:
                    require_live(message)
                    params = INFERENCE_REQUEST.match(message.topic)
                    if params is not None and params["service"] not in self._served():
                        await self._answer(message, params["service"])
                except Exception as error:
                    self._refused(message.topic, error)

    async def _answer(self, message: Message, service: str) -> None:
        served = ", ".join(sorted(self._served())) or "none"
        error = Refused("unknown-service", topic=message.topic, field="service", got=service,
                        expected=f"a service that is served on this node: {served}")  # fmt: skip
        try:
            tree = None if message.reply_to is not None else parse(message.body, message.topic)
            address = reply_of(message, tree, self._node.bus.root)
        except Refused:
            self._refused(message.topic, error)
            return
        answer = {"error": error_body(error)}
        body = json.dumps(answer).encode() if message.body[:1] == b"{" else msgpack.packb(answer)
        with contextlib.suppress(HeliographError):
            await self._node.bus.publish(address, body, correlation=message.correlation, sure=False)
