"""What streams have stored since a time, merged by the time at which the broker stored it, and what follows."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.consumer import Puller
from heliograph.core.errors import Forbidden, Refused
from heliograph.core.tasks import cancel_and_wait

WINDOW = 1024
WINDOW_BYTES = 4 * 1024 * 1024
"""Messages, and bytes, of a stream in flight."""
CHECK_AFTER = 1.0
"""Seconds without a message after which the broker is asked whether there is one."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message that a stream has.

    Attributes:
        topic: its address below the root.
        time: seconds since 1970 at which the broker stored it.
        headers: what its sender says beside it.
    """

    topic: str
    body: bytes
    time: float
    headers: Mapping[str, str] = field(default_factory=dict)


class History:
    """The messages of streams since a time; an async context manager.

    Args:
        patterns: patterns of addresses, each of one stream.
        since: seconds since 1970, by the broker's clock; 0 for all that the streams have.

    Raises:
        Refused: on entering the context, if this login may read no streams.
        HeliographError: if the broker lacks a stream, which a coordinator of this version makes.
    """

    def __init__(self, bus: NatsBus, patterns: Sequence[str], since: float) -> None:
        self._bus = bus
        self._pullers = [
            Puller(bus.connection, pattern, "", 1, WINDOW, WINDOW_BYTES, since or None) for pattern in patterns
        ]
        self._patterns = patterns
        self._upcoming: dict[int, asyncio.Task[Stored]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            for puller in self._pullers:
                self._stack.push_async_callback(puller.end)
                await puller.begin()
        except Forbidden as error:
            await self._stack.aclose()
            raise _no_streams(self._patterns, str(error)) from None
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await cancel_and_wait(*self._upcoming.values())
        await self._stack.aclose()

    async def past(self) -> AsyncIterator[Stored]:
        """Yield the messages that the streams have by now, oldest first."""
        left = [await puller.behind() for puller in self._pullers]
        heads: list[tuple[float, int, Stored]] = []

        async def advance(place: int) -> None:
            if left[place] > 0 and (found := await self._next_stored(place)) is not None:
                left[place] -= 1
                heapq.heappush(heads, (found.time, place, found))

        for place in range(len(left)):
            await advance(place)
        while heads:
            _, place, found = heapq.heappop(heads)
            yield found
            await advance(place)

    async def live(self) -> AsyncIterator[Stored]:
        """Yield what comes after ``past``, without end."""
        while True:
            places = {self._task(place): place for place in range(len(self._pullers))}
            done, _ = await asyncio.wait(places, return_when=asyncio.FIRST_COMPLETED)
            for each in sorted(done, key=places.__getitem__):
                del self._upcoming[places[each]]
                yield each.result()

    async def _next_stored(self, place: int) -> Stored | None:
        """Return a stream's next message; None where there is none any more: it has expired or was replaced."""
        task = self._task(place)
        while not (await asyncio.wait({task}, timeout=CHECK_AFTER))[0]:
            if not await self._pullers[place].behind():
                return None  # the task stays, for ``live``
        del self._upcoming[place]
        return task.result()

    def _task(self, place: int) -> asyncio.Task[Stored]:
        """Return the task that waits for a stream's next message: cancelling it could lose the message."""
        if place not in self._upcoming:
            self._upcoming[place] = asyncio.ensure_future(self._next(place))
        return self._upcoming[place]

    async def _next(self, place: int) -> Stored:
        message, _, time = await self._pullers[place].delivery()
        address = self._bus.subjects.address(message.subject)
        return Stored(address, message.data, time / 1e9, dict(message.headers or {}))


def _no_streams(patterns: Sequence[str], why: str) -> Refused:
    return Refused("forbidden", topic=", ".join(patterns), expected="a login that may read streams", got=why,
                   hint="Use the operator's login.")  # fmt: skip
