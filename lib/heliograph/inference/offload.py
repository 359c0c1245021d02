"""Offloading: requests to the cloud's model through the node's broker and its agent, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.topics import ANSWER
from heliograph.bus.contract.topics import OFFLOAD as OFFLOAD_TOPIC
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.telemetry import NO_TELEMETRY, OFFLOAD, Telemetry


class Offloader:
    """Requests of one client to the cloud's model of one service, over an open bus."""

    def __init__(self, bus: Bus, service: str, client: str, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._span = telemetry.span(OFFLOAD, service=service)
        self._bus = bus
        self._service = service
        self._client = client
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._number = 0
        self._stack = AsyncExitStack()
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def ask(self, body: bytes, seconds: float) -> dict[str, Any]:
        """Return the cloud's answer to a packed request.

        Raise Unreachable if none comes within ``seconds``, Refused if the answer is an error.
        """
        self._number += 1
        id = f"{self._number:x}"
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[id] = answered
        try:
            with self._span():
                async with asyncio.timeout(seconds):
                    await self.listen()
                    topic = OFFLOAD_TOPIC.at(service=self._service, client=self._client, id=id)
                    await self._bus.publish(topic, body, sure=False)
                    return _answer_in(await answered)
        except TimeoutError:
            raise Unreachable(f"service {self._service}: the cloud did not answer within {seconds:.3f} s") from None
        finally:
            del self._waiting[id]

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self._stack.aclose()

    async def listen(self) -> None:
        """Subscribe to the answers. The first request does it, unless it was done before."""
        if self._reading is not None:
            return
        async with self._opening:
            if self._reading is None:
                pattern = ANSWER.filter(service=self._service, client=self._client)
                answers = await self._stack.enter_async_context(self._bus.subscribe(pattern))
                self._reading = asyncio.create_task(self._read(answers))

    async def _read(self, answers: AsyncIterator[Message]) -> None:
        async for message in answers:
            params = ANSWER.match(message.topic)
            waiting = self._waiting.get(params["id"]) if params is not None else None
            if waiting is not None and not waiting.done():
                waiting.set_result(message)


def _answer_in(message: Message) -> dict[str, Any]:
    tree = parse(message.body, message.topic)
    if not isinstance(tree, dict):
        raise Unreachable(f"{message.topic}: expected an answer, got {type(tree).__name__}")
    error = tree.get("error")
    if not isinstance(error, dict):
        return tree
    known: dict[str, Any] = {key: str(error.get(key, "")) for key in ("code", "field", "expected", "got", "hint")}
    if known["code"] == "unreachable":
        raise Unreachable(str(error.get("message", "the cloud cannot be reached")))
    raise Refused(topic=message.topic, **known)


def is_overload(error: HeliographError) -> bool:
    """Return whether the cloud's model answers but has too many requests."""
    return isinstance(error, Refused) and error.code == "overloaded"
