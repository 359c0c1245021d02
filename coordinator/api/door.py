"""The door: requests come in, and each gets one reply, however malformed it is.

On the embedded broker an MQTT publish is a NATS message too, so requests are taken on NATS only; in front of an
external MQTT broker the door takes them there as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from heliograph.bus.contract.event import from_tree, is_event, parse
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import LOG, REQUEST
from heliograph.bus.reply import reply_address
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World

AT_ONCE = 64
"""Requests worked on at the same time; the broker keeps further ones."""

Handler = Callable[[str, str, Any, str], Awaitable[Any]]
"""(resource, verb, document, topic) to result. Raises Refused."""


class Door:
    """Takes requests from every bus and answers each."""

    def __init__(self, buses: Sequence[Bus], log: Bus, world: World, handler: Handler) -> None:
        self._buses = buses
        self._log = log
        self._world = world
        self._handler = handler
        self._working = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.listening = asyncio.Event()
        """Set once requests on the first of the buses, the coordinator's own, are taken."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(self._take(bus))

    async def _take(self, bus: Bus) -> None:
        # not REQUEST.filter(): a request of the wrong shape is answered as well
        async with bus.subscribe("request/#") as messages:
            if bus is self._buses[0]:
                self.listening.set()
            async for message in messages:
                await self._working.acquire()
                task = asyncio.create_task(self._answer(bus, message))
                self._tasks.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.release()
        self._tasks.discard(task)

    async def _answer(self, bus: Bus, message: Message) -> None:
        topic = f"{bus.root}/{message.topic}"
        reply_to = message.reply_to
        try:
            if reply_to is not None and not bus.is_inbox(reply_to):
                bad, reply_to = reply_to, None
                reply_to = reply_address(bad, topic, bus.root)
            check_size(REQUEST, topic, message.body)
            tree = parse(message.body, topic) if message.body.strip() else {}
            if isinstance(tree, dict) and "reply_to" in tree:
                address = reply_address(tree.pop("reply_to"), topic, bus.root)
                reply_to = reply_to or address
            params = _params(message.topic, topic)
            document = from_tree(tree, topic).data if is_event(tree) else tree
            result = await self._handler(params["resource"], params["verb"], document, topic)
            answer: dict[str, Any] = {"ok": True, "result": result}
        except Refused as error:
            if not error.topic:
                error = Refused(error.code, topic=topic, field=error.field, expected=error.expected, got=error.got,
                                hint=error.hint)  # fmt: skip
            answer = {"ok": False, "error": error.as_dict()}
        except HeliographError as error:
            answer = {"ok": False, "error": {"code": "unavailable", "topic": topic, "message": str(error)}}
        with contextlib.suppress(HeliographError):
            if reply_to is not None:
                body = json.dumps(answer).encode()
                await bus.publish(reply_to, body, correlation=message.correlation)
            elif not answer["ok"]:
                await self._complain(answer["error"])

    async def _complain(self, error: dict[str, Any]) -> None:
        """Publish an error whose sender left no address as a log record."""
        record = LogRecord(
            level="error", component="door", message=str(error["message"]), time=self._world.timestamp(), fields=error
        )
        await self._log.publish(LOG.at("door", component="error"), record.model_dump_json().encode())


def _params(address: str, topic: str) -> dict[str, str]:
    params, known_verbs = REQUEST.match(address), declared().verbs
    if params is None or params["resource"] not in known_verbs:
        known = ", ".join(sorted(known_verbs))
        raise Refused("unknown-topic", topic=topic, expected=f"request/<resource>/<verb> with a resource of {known}")
    if params["verb"] not in known_verbs[params["resource"]]:
        verbs = ", ".join(known_verbs[params["resource"]])
        raise Refused("unknown-verb", topic=topic, field="verb", expected=f"one of {verbs}", got=params["verb"])
    return params
