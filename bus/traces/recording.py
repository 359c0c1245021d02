"""Recording: what goes over a broker's topics, into a trace.

On NATS, events that are kept in streams are pulled from them: the broker says when it had them, and a recorder that
does not keep up takes them later, none is lost. What no stream keeps is taken as it passes, as all is on MQTT; what of
it came faster than it could be written is counted.
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
from heliograph.bus.traces.blob_taking import BlobTaker
from heliograph.bus.traces.event_time import event_time
from heliograph.bus.traces.patterns import apart, both, wanted_by
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus, Message
from heliograph.core.errors import Forbidden, HeliographError, NobodyAnswers, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

WINDOW = 4096
WINDOW_BYTES = 16 * 1024 * 1024
"""Messages, and bytes, of a stream that are on their way."""
FLUSH_AFTER = 2.0
"""Seconds after which what was recorded is safe from a kill of this process."""
CATCH_UP = 10.0
"""Seconds that a recording which is to end waits for what the broker has already."""
_KEPT = (LANE, NUMBER, REPLAYED)
_QUIET = 0.1


@dataclass
class Outcome:
    """What a recording has, and what it has not.

    Attributes:
        messages: how many were recorded.
        dropped: how many passed that were not; 0, or what came faster than it could be written on topics that no
            stream keeps.
        outages: how often the link was away; what passed meanwhile on topics that no stream keeps is missing.
        left: blobs that are not in the trace, and why.
        unstored: topics whose stream this broker does not have: taken as they passed.
    """

    messages: int = 0
    dropped: int = 0
    outages: int = 0
    away: float = 0.0
    left: list[str] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    cut: str = ""

    @property
    def complete(self) -> bool:
        return not (self.dropped or self.outages or self.left or self.cut)


@dataclass(frozen=True)
class _Pulled:
    """A stream's messages; of one of last values, those up to ``old`` the broker held before."""

    puller: Puller
    old: int


class Recorder:
    """Records a broker's topics into a trace until ``stop`` is called.

    Args:
        bus: open.
        patterns: addresses that are recorded. On NATS, ``#`` is every declared topic.
        most: messages after which it stops by itself; 0: none.
        blobs: takes along what the messages name.
        past: begins with the events that streams hold from before, in the order of their times.
    """

    def __init__(
        self,
        bus: Bus,
        writer: TraceWriter,
        world: World,
        patterns: Sequence[str] = ("#",),
        most: int = 0,
        blobs: BlobTaker | None = None,
        past: bool = False,
    ) -> None:
        self.outcome = Outcome()
        self.ready = asyncio.Event()
        """Set when all that is published from now on is recorded."""
        self._bus = bus
        self._writer = writer
        self._world = world
        self._patterns = tuple(patterns)
        self._wanted = wanted_by(patterns)
        self._most = most
        self._blobs = blobs
        self._past = past
        self._stopping = asyncio.Event()
        self._flushing: asyncio.TimerHandle | None = None
        self._down_since: float | None = None

    def stop(self) -> None:
        """Ends the recording once all is taken that the broker has by now."""
        self._stopping.set()

    async def run(self) -> Outcome:
        """Until stopped. Raises Refused where the broker does not let these topics be read, OSError where the file can
        not be written."""
        dropped = self._bus.dropped
        async with contextlib.AsyncExitStack() as stack:
            pulled, passing = await self._subscribe(stack)
            self._bus.link.listen(self._on_link)
            stack.callback(self._bus.link.forget, self._on_link)
            self.ready.set()
            if self._past:
                await self._take_past(pulled)
            takers: list[Awaitable[None]] = [self._pull(each) for each in pulled]
            if passing is not None:
                takers.append(self._take(passing))
            await self._until_stopped(takers)
            if not self._full:
                await self._catch_up(pulled, passing)
        if self._flushing is not None:
            self._flushing.cancel()
        if self._blobs is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP):
                    await self._blobs.finish()
            await self._blobs.close()
            self.outcome.left = self._blobs.left
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
                chosen = [found for each in self._patterns if (found := both(topic.filter(), each)) is not None]
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
                for pattern in apart(chosen):
                    puller = Puller(self._bus.connection, pattern, "", begin, WINDOW, WINDOW_BYTES)
                    stack.push_async_callback(puller.end)
                    await puller.begin()
                    pulled.append(_Pulled(puller, last if topic.stream.last_value else 0))
            passing += [each for each in self._patterns if not list(registry.declared().find_by_filter(each))]
        else:
            passing = list(self._patterns)
        if not passing:
            return pulled, None
        return pulled, await stack.enter_async_context(self._bus.subscribe(*apart(passing)))

    async def _last_of(self, bus: NatsBus, topic: topics.Topic[Any]) -> int | None:
        """The sequence of the newest message in a topic's stream; None where this broker has no such stream."""
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
                hint="The operator's may; without one, --topics 'status/#' can be recorded.",
            ) from None  # fmt: skip
        if "error" in answer:
            return None
        return int(answer["state"]["last_seq"])

    async def _until_stopped(self, takers: Sequence[Awaitable[None]]) -> None:
        """Raises what any of them does."""
        tasks = [asyncio.ensure_future(each) for each in takers]
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

    async def _take_past(self, pulled: Sequence[_Pulled]) -> None:
        """One stream after the other would leave a file of which each part spans all times."""
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

    async def _take(self, passing: AsyncIterator[Message]) -> None:
        async for message in passing:
            self._record(
                message.topic, message.body, int(self._world.now() * 1e9), message.headers, message.retained
            )

    def _record(self, address: str, body: bytes, time: int, headers: Mapping[str, str], retained: bool) -> None:
        if self._full or not self._wanted(address):
            return
        kept = {name: headers[name] for name in _KEPT if name in headers} if headers else {}
        named = event_time(body)
        self._writer.write(Recorded(address, body, time, time if named is None else named, kept, retained))
        self.outcome.messages += 1
        if self._blobs is not None:
            self._blobs.look(body)
        if self._full:
            self._stopping.set()
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        try:
            self._writer.flush()
        except OSError as error:  # told where the next message is written
            self.outcome.cut = str(error)
            self._stopping.set()

    async def _catch_up(self, pulled: Sequence[_Pulled], passing: AsyncIterator[Message] | None) -> None:
        """Takes what the broker had when the end was asked for."""
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
            self.outcome.cut = f"{where} had more that did not come within {CATCH_UP:g} s"
        except HeliographError as error:
            self.outcome.cut = f"the link was away at the end: {error}"

    def _on_link(self, up: bool) -> None:
        if not up and self._down_since is None:
            self._down_since = self._world.monotonic()
            self.outcome.outages += 1
        elif up and self._down_since is not None:
            self.outcome.away += self._world.monotonic() - self._down_since
            self._down_since = None
