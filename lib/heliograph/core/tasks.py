"""Keeping a component's parts running through the errors that pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from heliograph.core.errors import HeliographError, Unreachable
from heliograph.core.world import World

T = TypeVar("T")

AGAIN = 0.2
CANCEL_AGAIN = 2.0


async def keep_running(part: Callable[[], Awaitable[None]], world: World, warn: Callable[[str], None]) -> None:
    """Runs ``part`` again after an expected error (a broker away, a refused permission), each said once."""
    said = ""
    while True:
        try:
            await part()
            return
        except HeliographError as error:
            if str(error) != said:
                said = str(error)
                warn(said)
            await world.sleep(AGAIN)


async def retry_until_reachable(call: Callable[[], Awaitable[T]], world: World, warn: Callable[[str], None]) -> T:
    """What ``call`` returns; called again while a broker is away or does not answer, each reason said once.

    Only for what may be done twice: whether a lost answer's request was carried out, nobody knows.
    """
    said = ""
    while True:
        try:
            return await call()
        except Unreachable as error:
            if str(error) != said:
                said = str(error)
                warn(f"{said}; trying again")
            await world.sleep(AGAIN)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and returns when they are over, whatever they raise.

    Again and again: on Python 3.11 ``asyncio.wait_for`` swallows a cancellation that comes together with what it waits
    for, and the client libraries wait by it. Our own code waits by ``asyncio.timeout``.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)


async def unswallowed(call: Awaitable[T]) -> T:
    """Awaits what a client library offers, and raises a cancellation that came meanwhile even where the library lost it
    (see ``cancel_and_wait``): whoever was cancelled would go on for ever, and a task group would wait for it."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    result = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result


class Flag:
    """As ``asyncio.Event``, in a fifth of its memory and of its steps: each of ten thousand agents has several."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Whoever waits goes on, though it may be cleared before they do."""
        if not self._set:
            self._set = True
            for each in self._waiting:
                if not each.done():
                    each.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        """Returns at once where it is set."""
        if not self._set:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)


async def wait_for(event: asyncio.Event | Flag, seconds: float) -> bool:
    """Whether an event is set, now or in so many seconds at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Background:
    """Tasks that nobody awaits: held while they run, their expected errors said, all cancelled at the end."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks)

    async def _guarded(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except HeliographError as error:
            self._warn(str(error))
