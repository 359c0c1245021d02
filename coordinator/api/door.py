"""The door: take requests, and answer each with one reply, however malformed it is.

On the embedded broker an MQTT publish is a NATS message too, so the door takes requests on NATS only. It subscribes to
external MQTT brokers as well.
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
from heliograph.bus.reply import reply_address, reply_in_unreadable
from heliograph.bus.transport import Bus, Message, require_live
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.failures import Failures, sentence_of
from heliograph.core.world import World

MAX_CONCURRENT = 64
"""Requests handled at the same time; the broker queues further ones."""

Handler = Callable[[str, str, Any, str], Awaitable[Any]]
"""Maps (resource, verb, document, topic) to the result; raises Refused."""


class Door:
    """Takes requests from every bus and answers each."""

    def __init__(
        self, buses: Sequence[Bus], log: Bus, world: World, handler: Handler, failures: Failures
    ) -> None:
        self._buses = buses
        self._log = log
        self._world = world
        self._handler = handler
        self._failures = failures
        self._working = asyncio.Semaphore(MAX_CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self.listening = asyncio.Event()
        """Set once the door has subscribed to the first bus, the coordinator's own."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for bus in self._buses:
                group.create_task(self._serve(bus))

    async def _serve(self, bus: Bus) -> None:
        # not REQUEST.filter(): a request on a topic of the wrong shape gets its answer too
        async with bus.subscribe("request/#") as messages:
            if bus is self._buses[0]:
                self.listening.set()
            async for message in messages:
                if message.retained:  # asked before this coordinator led, and perhaps carried out
                    with self._failures.contain(message.topic):
                        require_live(message)
                    continue
                await self._working.acquire()
                task = asyncio.create_task(self._answer(bus, message))
                self._tasks.add(task)
                task.add_done_callback(self._release)

    def _release(self, task: asyncio.Task[None]) -> None:
        self._working.release()
        self._tasks.discard(task)

    async def _answer(self, bus: Bus, message: Message) -> None:
        topic = f"{bus.root}/{message.topic}"
        reply_to = message.reply_to
        try:
            if reply_to is not None and not bus.is_inbox(reply_to):
                bad, reply_to = reply_to, None
                reply_to = reply_address(bad, topic, bus.root)
            try:
                check_size(REQUEST, topic, message.body)
                tree = parse(message.body, topic) if message.body.strip() else {}
            except Refused:
                reply_to = reply_to or reply_in_unreadable(message.body, bus.root)
                raise
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
        except Exception as error:
            self._failures.add(topic, error)
            answer = {"ok": False, "error": {"code": "defect", "topic": topic, "message": sentence_of(error, topic)}}
        with contextlib.suppress(Unreachable), self._failures.contain(topic):
            if reply_to is not None:
                await self._reply(bus, message, reply_to, answer)
            elif not answer["ok"]:
                await self._log_error(answer["error"])

    async def _reply(self, bus: Bus, message: Message, reply_to: str, answer: dict[str, Any]) -> None:
        try:
            body = json.dumps(answer, allow_nan=False).encode()
            await bus.publish(reply_to, body, correlation=message.correlation)
        except (Refused, ValueError) as error:  # the answer itself cannot be sent: it is too large, for example
            topic = f"{bus.root}/{message.topic}"
            self._failures.add(topic, error)
            text = sentence_of(error, topic)
            body = json.dumps({"ok": False, "error": {"code": "no-answer", "topic": topic, "message": text}}).encode()
            await bus.publish(reply_to, body, correlation=message.correlation)

    async def _log_error(self, error: dict[str, Any]) -> None:
        """Publish an error as a log record: its sender gave no reply address."""
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
