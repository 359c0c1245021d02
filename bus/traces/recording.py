"""Recording a broker's topics into a trace.

On NATS the recorder pulls the events of streams: the broker gives the time at which it stored each, and a slow recorder
loses none. Messages that no stream stores, and all messages on MQTT, are recorded as they pass; those that come faster
than they can be written are counted as dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nats.aio.msg import Msg

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import registry, topics
from heliograph.bus.contract.lanes import LANE, NUMBER, REPLAYED
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.consumer import Puller
from heliograph.bus.traces.blob_collector import BlobCollector
from heliograph.bus.traces.event_time import event_time
from heliograph.bus.traces.patterns import disjoint, intersection, matcher
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import Forbidden, HeliographError, NobodyAnswers, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

WINDOW = 4096
WINDOW_BYTES = 16 * 1024 * 1024
"""Messages, and bytes, of a stream in flight."""
FLUSH_AFTER = 2.0
"""Seconds until a recorded message survives a kill of this process."""
CATCH_UP = 10.0
"""Longest wait, at the end of a recording, for messages that the broker already has, in seconds."""
_RECORDED_HEADERS = (LANE, NUMBER, REPLAYED)
_QUIET = 0.1


@dataclass
class Outcome:
    """The outcome of a recording.

    Attributes:
        messages: number of recorded messages.
        dropped: number of messages, on topics without a stream, that came faster than they could be written.
        outages: number of times that the link was down; messages of that time on topics without a stream are missing.
        away: total time of the outages, in seconds.
        missing_blobs: blobs that are not in the trace, each with the reason.
        unstored: topics whose stream this broker does not have; their messages were recorded as they passed.
        cut: why the recording ended before it was complete; empty if it was.
    """

    messages: int = 0
    dropped: int = 0
    outages: int = 0
    away: float = 0.0
    missing_blobs: list[str] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    cut: str = ""

    @property
    def complete(self) -> bool:
        return not (self.dropped or self.outages or self.missing_blobs or self.cut)


@dataclass(frozen=True)
class _Pulled:
    """A puller of a stream; in a last-value stream the sequences up to ``old`` are from before the recording."""

    puller: Puller
    old: int


class Recorder:
    """A recorder of a broker's topics into a trace, until ``stop``.

    Args:
        bus: an open bus.
        writer: writer of the trace.
        patterns: patterns of the addresses to record. On NATS ``#`` means every declared topic.
        most: number of messages after which the recording stops; 0 sets no limit.
        blobs: collector of the weights that the messages name.
        past: True to begin with the events that streams already have, by their times.
    """

    def __init__(
        self,
        bus: Bus,
        writer: TraceWriter,
        world: World,
        patterns: Sequence[str] = ("#",),
        most: int = 0,
        blobs: BlobCollector | None = None,
        past: bool = False,
    ) -> None:
        self.outcome = Outcome()
        self.ready = asyncio.Event()
        """Set when every message published from now on will be recorded."""
        self._bus = bus
        self._writer = writer
        self._world = world
        self._patterns = tuple(patterns)
        self._wanted = matcher(patterns)
        self._most = most
        self._blobs = blobs
        self._past = past
        self._stopping = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None
        self._down_since: float | None = None

    def stop(self) -> None:
        """End the recording once the messages that the broker has by now are recorded."""
        self._stopping.set()

    async def run(self) -> Outcome:
        """Record until stopped. Raise Refused if this login may not read these topics, OSError if the file cannot be
        written."""
        dropped = self._bus.dropped
        async with contextlib.AsyncExitStack() as stack:
            pulled, passing = await self._subscribe(stack)
            self._bus.link.listen(self._on_link)
            stack.callback(self._bus.link.forget, self._on_link)
            self.ready.set()
            if self._past:
                await self._record_past(pulled)
            recorders: list[Awaitable[None]] = [self._pull(each) for each in pulled]
            if passing is not None:
                recorders.append(self._record_passing(passing))
            await self._until_stopped(recorders)
            if not self._full:
                await self._catch_up(pulled, passing)
        if self._flushing is not None:
            self._flushing.cancel()
        if self._blobs is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP):
                    await self._blobs.finish()
            await self._blobs.close()
            self.outcome.missing_blobs = self._blobs.missing
        self._on_link(True)
        self.outcome.dropped = self._bus.dropped - dropped
        return self.outcome

    @property
    def _full(self) -> bool:
        return 0 < self._most <= self.outcome.messages

    async def _subscribe(
        self, stack: contextlib.AsyncExitStack
    ) -> tuple[list[_Pulled], AsyncIterator[Message] | None]:
        pulled: list[_Pulled] = []
        passing: list[str] = []
        if isinstance(self._bus, NatsBus):
            for topic in registry.declared().topics:
                if topic.delivery == "blob":
                    continue  # bytes of weights in passing: a blob collector has them
                chosen = [found for each in self._patterns if (found := intersection(topic.filter(), each)) is not None]
                if not chosen:
                    continue
                last = await self._last_of(self._bus, topic) if topic.stream is not None else None
                if last is None:
                    passing += chosen
                    if topic.stream is not None:
                        self.outcome.unstored.append(topic.pattern)
                    continue
                assert topic.stream is not None
                begin = 1 if topic.stream.last_value or self._past else last + 1
                for pattern in disjoint(chosen):
                    puller = Puller(self._bus.connection, pattern, "", begin, WINDOW, WINDOW_BYTES)
                    stack.push_async_callback(puller.end)
                    await puller.begin()
                    pulled.append(_Pulled(puller, last if topic.stream.last_value else 0))
            passing += [each for each in self._patterns if not list(registry.declared().find_by_filter(each))]
        else:
            passing = list(self._patterns)
        if not passing:
            return pulled, None
        return pulled, await stack.enter_async_context(self._bus.subscribe(*disjoint(passing)))

    async def _last_of(self, bus: NatsBus, topic: topics.Topic[Any]) -> int | None:
        """Return the sequence of the newest message in a topic's stream; None if this broker has no such stream."""
        assert topic.stream is not None
        name = bus.subjects.stream_name(topic.stream.name)
        try:
            answer = await bus.connection.ask(f"$JS.API.STREAM.INFO.{name}")
        except NobodyAnswers:
            return None
        except Forbidden:
            raise Refused(
                "forbidden", topic=topic.pattern, expected="a login that may read streams",
                got="a refusal by the broker",
                hint="Use the operator's login, or record --topics 'status/#'.",
            ) from None  # fmt: skip
        if "error" in answer:
            return None
        return int(answer["state"]["last_seq"])

    async def _until_stopped(self, recorders: Sequence[Awaitable[None]]) -> None:
        """Run the recorders until ``stop``; raise the first error of any of them."""
        tasks = [asyncio.ensure_future(each) for each in recorders]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await cancel_and_wait(*tasks, stopping)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _record_past(self, pulled: Sequence[_Pulled]) -> None:
        """Merge the streams by time: recorded one after the other, every part of the file would span all times."""
        left = [await each.puller.behind() for each in pulled]
        heads = [(found[2], place, found) for place, each in enumerate(pulled) if left[place]
                 for found in [await each.puller.delivery()]]  # fmt: skip
        heapq.heapify(heads)
        while heads and not self._stopping.is_set():
            _, place, found = heads[0]
            self._record_pulled(pulled[place], found)
            left[place] -= 1
            if left[place]:
                following = await pulled[place].puller.delivery()
                heapq.heapreplace(heads, (following[2], place, following))
            else:
                heapq.heappop(heads)

    async def _pull(self, pulled: _Pulled) -> None:
        while True:
            self._record_pulled(pulled, await pulled.puller.delivery())

    def _record_pulled(self, pulled: _Pulled, found: tuple[Msg, int, int]) -> None:
        message, sequence, time = found
        address = self._bus.subjects.address(message.subject)  # type: ignore[attr-defined]
        self._record(address, message.data, time, message.headers or {}, sequence <= pulled.old)

    async def _record_passing(self, passing: AsyncIterator[Message]) -> None:
        async for message in passing:
            self._record(
                message.topic, message.body, int(self._world.now() * 1e9), message.headers, message.retained
            )

    def _record(self, address: str, body: bytes, time: int, headers: Mapping[str, str], retained: bool) -> None:
        if self._full or not self._wanted(address):
            return
        kept = {name: headers[name] for name in _RECORDED_HEADERS if name in headers} if headers else {}
        named = event_time(body)
        self._writer.write(Recorded(address, body, time, time if named is None else named, kept, retained))
        self.outcome.messages += 1
        if self._blobs is not None:
            self._blobs.collect(body)
        if self._full:
            self._stopping.set()
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            self._writer.flush()
        except OSError as error:  # the next write raises it; this ends the recording if none comes
            self.outcome.cut = str(error)
            self._stopping.set()

    async def _catch_up(self, pulled: Sequence[_Pulled], passing: AsyncIterator[Message] | None) -> None:
        """Record the messages that the broker had when ``stop`` was called."""
        try:
            async with asyncio.timeout(CATCH_UP):
                if isinstance(self._bus, NatsBus):
                    await self._bus.connection.settle()
                for each in pulled:
                    for _ in range(await each.puller.behind()):
                        self._record_pulled(each, await each.puller.delivery())
                while passing is not None:
                    try:
                        async with asyncio.timeout(_QUIET):
                            message = await anext(passing)
                    except TimeoutError:
                        break
                    self._record(
                        message.topic, message.body, int(self._world.now() * 1e9), message.headers, message.retained
                    )
        except TimeoutError:
            where = ConnectionUrl.parse(self._bus.url).shown
            self.outcome.cut = f"{where} had more messages, which did not come within {CATCH_UP:g} s"
        except HeliographError as error:
            self.outcome.cut = f"the link was down at the end: {error}"

    def _on_link(self, up: bool) -> None:
        if not up and self._down_since is None:
            self._down_since = self._world.monotonic()
            self.outcome.outages += 1
        elif up and self._down_since is not None:
            self.outcome.away += self._world.monotonic() - self._down_since
            self._down_since = None
