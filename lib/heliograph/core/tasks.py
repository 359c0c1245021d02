"""Running a component's tasks: retries, cancellation, flags and background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from heliograph.core.backoff import Backoff
from heliograph.core.errors import HeliographError, Unreachable, first_error
from heliograph.core.failures import sentence_of
from heliograph.core.world import World

T = TypeVar("T")

RETRY_SECONDS = 0.2
"""Pause before another attempt after an expected error."""
MAX_PAUSE = 10.0
"""Ceiling of the pauses before another attempt after a defect."""
CANCEL_RETRY_SECONDS = 2.0
"""Pause before a task that is still running is cancelled again."""


async def keep_running(part: Callable[[], Awaitable[None]], world: World, warn: Callable[[str], None]) -> None:
    """Run ``part`` until it returns, again after each error, expected (no broker, a denied permission) or not.

    Repeats of the same error are warned of once. After a defect the pauses grow.
    """
    warned, backoff = "", Backoff(world.rng.random, 2 * RETRY_SECONDS, MAX_PAUSE)
    while True:
        try:
            await part()
            return
        except Exception as error:
            if isinstance(first_error(error), HeliographError):
                pause, line = RETRY_SECONDS, sentence_of(error)
                backoff.reset()
            else:
                pause, line = backoff.next(RETRY_SECONDS), sentence_of(error, name_of(part))
            if line != warned:
                warned = line
                warn(line)
            await world.sleep(pause)


async def retry_until_reachable(call: Callable[[], Awaitable[T]], world: World, warn: Callable[[str], None]) -> T:
    """Return the result of ``call``, calling again while the broker is unreachable.

    ``call`` must be idempotent: a request whose answer was lost may have been carried out. Repeats of the same reason
    are warned of once.
    """
    warned = ""
    while True:
        try:
            return await call()
        except Unreachable as error:
            if str(error) != warned:
                warned = str(error)
                warn(f"{warned}; trying again")
            await world.sleep(RETRY_SECONDS)


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and return when all have ended, whatever they raise.

    The cancellation is repeated: on Python 3.11 ``asyncio.wait_for``, which the client libraries use, swallows a
    cancellation that arrives together with the result. Our own code uses ``asyncio.timeout``.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_RETRY_SECONDS)


async def keep_cancellation(call: Awaitable[T]) -> T:
    """Await a client library's call, and raise CancelledError even where the library swallowed the cancellation.

    The library swallows it where it arrives together with the call's result or error. The cancelled task would then run
    for ever, and its task group would wait for it (see ``cancel_and_wait``).
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await call
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


class Flag:
    """An ``asyncio.Event`` in a fifth of its memory and steps: each of ten thousand simulated agents has several."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Set the flag and wake every waiter, even if the flag is cleared before the waiter runs."""
        if not self._set:
            self._set = True
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def clear(self) -> None:
        self._set = False

    async def wait(self) -> None:
        """Wait until the flag is set; return at once if it is."""
        if not self._set:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)


async def wait_for(event: asyncio.Event | Flag, seconds: float) -> bool:
    """Wait at most ``seconds`` for an event; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Background:
    """Tasks that nobody awaits: referenced while they run, their errors warned of, cancelled by ``close``."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._run(coroutine, name_of(coroutine)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks)

    async def _run(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await coroutine
        except HeliographError as error:
            self._warn(str(error))
        except Exception as error:
            self._warn(sentence_of(error, name))


def name_of(part: object) -> str:
    """Return the name of a coroutine or of its function, for people."""
    return str(getattr(getattr(part, "func", part), "__qualname__", part))
