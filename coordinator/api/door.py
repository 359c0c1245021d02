"""The door: take requests, and answer each with one reply, however malformed it is.

On the embedded broker an MQTT publish is a NATS message too, so the door takes requests on NATS only. It subscribes to
external MQTT brokers as well. An edge asks for a longer login on a topic of its own, which it alone may publish to, by
whatever server it is connected.

Every arriving request is queued at once, by its caller (``fair_queue``), so that a flood from one caller neither delays
nor loses another's requests: the subscription never waits for the handling of a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.event import from_tree, is_event, parse
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.contract.permissions import agent_login
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import LOG, RENEWAL, REQUEST
from heliograph.bus.reply import TOO_MANY, caller_of_message, reply_address, reply_in_bytes, require_own
from heliograph.bus.transport import Bus, Message, require_live
from heliograph.coordinator.api.fair_queue import FairQueue, Limits, Turn
from heliograph.coordinator.api.request import Answer, Request
from heliograph.coordinator.api.token_bucket import Rate, TokenBucket
from heliograph.coordinator.authorization.callers import Callers
from heliograph.coordinator.authorization.rights import Rights
from heliograph.coordinator.quotas import Quotas
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.failures import Failures, is_milestone, sentence_of
from heliograph.core.names import CLOUD
from heliograph.core.tasks import wait_for
from heliograph.core.world import World

REFUSALS = Rate(100, 200)
"""Answers ``too-many-requests`` in a second; further requests are dropped without one: a flood must not be doubled."""
READING_SHARE = 0.25
"""Share of the time for reading heavy documents that one caller may take in the long run."""
LIGHT, LIGHT_BYTES, LIGHT_COST = ("get", "status"), 512, 0.25
"""Verbs that read one resource, the bytes of such a request, and as how much of a request it counts: it stores nothing,
and there is little to check."""
TOGETHER = 8
"""Light requests that begin before anything else may run: their answers leave in one write."""
BREATHER = 64
"""Arriving requests after which others may run."""

_RENEWAL = {"resource": "invitations", "verb": "renew"}
"""The request that an edge sends on its own topic."""
Handler = Callable[[Request], Awaitable[Any]]
"""Maps a request to its result, or to an ``Answer``; raises Refused."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    bus: Bus
    message: Message

    @property
    def topic(self) -> str:
        return f"{self.bus.root}/{self.message.topic}"

    @property
    def edge(self) -> str:
        """The edge that asks for a longer login, whose account alone leads to the topic; empty for a request."""
        return (RENEWAL.match(self.message.topic) or {}).get("edge", "")

    def own_reply_in_bytes(self) -> str | None:
        """Return the reply address in the bytes of an unread document; None if it is none, or another's. An edge names
        none: its answer goes to its own account."""
        if self.edge:
            return None
        address = reply_in_bytes(self.message.body, self.bus.root)
        with contextlib.suppress(Refused):
            return address and require_own(address, self.message, self.bus.root)
        return None

    def caller(self, reply_to: str | None) -> str:
        edge = self.edge
        return agent_login(edge) if edge else caller_of_message(self.message, reply_to, self.bus.root)


class Door:
    """Takes requests from every bus and answers each.

    Args:
        buses: the cloud's broker, then external ones, which tell of nobody who asks.
    """

    def __init__(
        self, buses: Sequence[Bus], log: Bus, world: World, handler: Handler, failures: Failures, quotas: Quotas,
        callers: Callers, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._buses = buses
        self._callers = callers
        self._log = log
        self._world = world
        self._handler = handler
        self._failures = failures
        self._quotas = quotas
        self._warn = warn
        self._limits = Limits(
            requests=Rate(quotas.requests_per_second, quotas.requests_at_once),
            bytes=Rate(quotas.bytes_per_second, quotas.bytes_at_once),
            requests_in_all=Rate(quotas.requests_per_second_in_all, 2 * quotas.requests_per_second_in_all),
        )
        self._queue = FairQueue[_Arrived](self._limits, world.monotonic())
        self._refusals = TokenBucket(REFUSALS, world.monotonic())
        self._refused = 0
        """Number of requests that had no room."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        """Set when a request may have become the next: one has arrived, or one is done."""
        self.listening = asyncio.Event()
        """Set once the door has subscribed to the first bus."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatch())
            for bus in self._buses:
                group.create_task(self._serve(bus))

    async def _serve(self, bus: Bus) -> None:
        # not REQUEST.filter(): a request on a topic of the wrong shape gets its answer too
        patterns = ("request/#", RENEWAL.filter()) if bus is self._buses[0] else ("request/#",)
        async with bus.subscribe(*patterns) as messages:
            if bus is self._buses[0]:
                self.listening.set()
            number = 0
            async for message in messages:
                if message.retained:  # asked before this coordinator led, and perhaps carried out
                    with self._failures.contain(message.topic):
                        require_live(message)
                else:
                    self._arrive(_Arrived(bus, message))
                number += 1
                if number % BREATHER == 0:
                    await self._world.sleep(0)

    def _arrive(self, arrived: _Arrived) -> None:
        message = arrived.message
        reply_to = message.reply_to
        if reply_to is None:  # before the document is read: a full queue must cost little
            reply_to = arrived.own_reply_in_bytes()
        caller = arrived.caller(reply_to)
        light = message.topic.rpartition("/")[2] in LIGHT and len(message.body) <= LIGHT_BYTES
        cost = LIGHT_COST if light else 1
        if self._queue.offer(caller, arrived, len(message.body), self._world.monotonic(), cost):
            self._ready.set()
        else:
            self._refuse(arrived, reply_to, caller)

    async def _dispatch(self) -> None:
        """Start one request after the other, in the order of their turns; light ones a few at a time. The event loop
        serves everything else in between: of two callers' requests, the second never waits for more than one of the
        first to be computed, or for a few light ones."""
        while True:
            self._ready.clear()
            now = self._world.monotonic()
            begun = 0
            while begun < TOGETHER and (turn := self._queue.next(now)) is not None:
                self._spawn(self._take(turn))
                begun += 1 if turn.cost < 1 else TOGETHER
            if begun:
                await self._world.sleep(0)
                continue
            wait = self._queue.wait(now)
            if wait is None:
                await self._ready.wait()
            else:
                await wait_for(self._ready, max(wait, 0.001))

    def _spawn(self, handling: Any) -> None:
        task = asyncio.create_task(handling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refuse(self, arrived: _Arrived, reply_to: str | None, caller: str) -> None:
        """Answer a request that has no room in its caller's queue, unless such answers are too many too."""
        self._refused += 1
        now = self._world.monotonic()
        answer = bool(reply_to and caller) and self._refusals.take(1, now)
        if not answer and not is_milestone(self._refused):
            return  # thousands a second may come here
        limits = self._limits
        wait = round(max(0.1, self._queue.ready_in(caller, now)), 3)
        error = Refused(TOO_MANY, topic=arrived.topic, expected=f"at most {limits.waiting} waiting requests of "
                        f"{limits.waiting_bytes} bytes of one caller, and {limits.requests.per_second:g} in a second",
                        got=f"more from {caller or 'callers without a reply address'}",
                        hint="Send it again later; wait for answers before further requests.")  # fmt: skip
        if is_milestone(self._refused):
            self._warn(f"{error} ({self._refused} requests were refused so far)")
        if answer and reply_to is not None:
            body = {"ok": False, "error": {**error.as_dict(), "retry_after": wait}}
            self._spawn(self._send(arrived, reply_to, body))

    async def _take(self, turn: Turn[_Arrived]) -> None:
        answered = 0
        try:
            answered = await self._answer(turn)
        finally:
            self._queue.done(turn, answered, self._world.monotonic())
            self._ready.set()

    async def _answer(self, turn: Turn[_Arrived]) -> int:
        """Answer a request; return what it cost its caller besides its own bytes."""
        arrived = turn.item
        bus, message, topic = arrived.bus, arrived.message, arrived.topic
        reply_to = message.reply_to
        began, cost, reading = self._world.monotonic(), 0, turn.heavy

        def spend(size: int) -> None:
            nonlocal cost
            cost += size

        def read() -> None:
            nonlocal reading
            if reading:
                reading = False
                seconds = self._world.monotonic() - began
                spend(int(seconds / READING_SHARE * self._quotas.bytes_per_second))
                self._queue.read(turn)
                self._ready.set()

        try:
            if reply_to is not None and not bus.is_inbox(reply_to):
                bad, reply_to = reply_to, None
                reply_to = reply_address(bad, topic, bus.root)
            try:
                check_size(REQUEST, topic, message.body)
                self._quotas.check_size(len(message.body))
                tree = await self._parse(message.body, topic, turn.heavy)
            except Refused:
                reply_to = reply_to or arrived.own_reply_in_bytes()
                raise
            edge = arrived.edge
            if isinstance(tree, dict) and "reply_to" in tree and not edge:
                address = require_own(reply_address(tree.pop("reply_to"), topic, bus.root), message, bus.root)
                reply_to = reply_to or address
            params = _RENEWAL if edge else _params(message.topic, topic)
            document = from_tree(tree, topic).data if is_event(tree) else tree
            caller = arrived.caller(reply_to)
            if edge:  # not by its sender: where a site's server brings it, the edge may have written that header
                rights = Rights(caller)
            else:
                rights = self._callers.rights(message.sender, external=bus is not self._buses[0])
            request = Request(
                params["resource"], params["verb"], document, topic, caller, rights, turn.heavy, read, spend
            )
            result = await self._handler(request)
            answer: Answer | dict[str, Any] = result if isinstance(result, Answer) else {"ok": True, "result": result}
        except Refused as error:
            answer = {"ok": False, "error": error.about(topic).as_dict()}
        except HeliographError as error:
            answer = {"ok": False, "error": {"code": "unavailable", "topic": topic, "message": str(error)}}
        except Exception as error:
            self._failures.add(topic, error)
            answer = {"ok": False, "error": {"code": "defect", "topic": topic, "message": sentence_of(error, topic)}}
        read()
        if reply_to is not None:
            return cost + await self._send(arrived, reply_to, answer)
        if not isinstance(answer, Answer) and not answer["ok"]:
            with contextlib.suppress(Unreachable), self._failures.contain(topic):
                await self._log_error(answer["error"])
        return cost

    async def _parse(self, body: bytes, topic: str, heavy: bool) -> Any:
        if heavy:  # the event loop goes on meanwhile
            return await self._world.in_thread(parse, body, topic)
        return parse(body, topic) if body.strip() else {}

    async def _send(self, arrived: _Arrived, reply_to: str, answer: Answer | dict[str, Any]) -> int:
        """Publish an answer, and return its size; 0 where it cannot be sent."""
        bus, correlation, topic = arrived.bus, arrived.message.correlation, arrived.topic
        with contextlib.suppress(Unreachable), self._failures.contain(topic):
            try:
                body = answer.encoded() if isinstance(answer, Answer) else json.dumps(answer, allow_nan=False).encode()
                await bus.publish(reply_to, body, correlation=correlation)
            except (Refused, ValueError) as error:  # the answer itself cannot be sent: it is too large, for example
                self._failures.add(topic, error)
                text = sentence_of(error, topic)
                refusal = {"ok": False, "error": {"code": "no-answer", "topic": topic, "message": text}}
                body = json.dumps(refusal).encode()
                await bus.publish(reply_to, body, correlation=correlation)
            return len(body)
        return 0

    async def _log_error(self, error: dict[str, Any]) -> None:
        """Publish an error as a log record: its sender gave no reply address."""
        record = LogRecord(
            level="error", component="door", message=str(error["message"]), time=self._world.timestamp(), fields=error
        )
        await self._log.publish(LOG.at("door", edge=CLOUD, component="error"), record.model_dump_json().encode())


def _params(address: str, topic: str) -> dict[str, str]:
    params, known_verbs = REQUEST.match(address), declared().verbs
    if params is None or params["resource"] not in known_verbs:
        known = ", ".join(sorted(known_verbs))
        raise Refused("unknown-topic", topic=topic, expected=f"request/<resource>/<verb> with a resource of {known}")
    if params["verb"] not in known_verbs[params["resource"]]:
        verbs = ", ".join(known_verbs[params["resource"]])
        raise Refused("unknown-verb", topic=topic, field="verb", expected=f"one of {verbs}", got=params["verb"])
    return params
