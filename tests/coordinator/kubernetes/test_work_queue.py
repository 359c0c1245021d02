from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from heliograph.coordinator.kubernetes.work_queue import WorkQueue
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from tests.patience import HANGS


@asynccontextmanager
async def running(
    handle: Callable[[str], Awaitable[None]], lines: list[str], at_once: int = 2
) -> AsyncIterator[WorkQueue[str]]:
    queue = WorkQueue(handle, str, World(), Failures(lines.append))
    task = asyncio.create_task(queue.run(at_once))
    try:
        async with asyncio.timeout(HANGS):
            yield queue
    finally:
        await cancel_and_wait(task)


async def test_a_key_is_handled_once_however_often_it_was_added() -> None:
    handled: Counter[str] = Counter()
    done = asyncio.Event()

    async def handle(key: str) -> None:
        handled[key] += 1
        if key == "last":
            done.set()

    async with running(handle, []) as queue:
        for _ in range(100):
            queue.add("a")
        queue.add("last")
        await done.wait()
    assert handled == {"a": 1, "last": 1}


async def test_a_key_that_changes_while_it_is_handled_is_handled_again_and_never_twice_at_once() -> None:
    begun, go, again = asyncio.Event(), asyncio.Event(), asyncio.Event()
    inside = 0

    async def handle(key: str) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        if begun.is_set():
            again.set()
        begun.set()
        await go.wait()
        inside -= 1

    async with running(handle, [], at_once=4) as queue:
        queue.add("a")
        await begun.wait()
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(0)
        assert not again.is_set()
        go.set()
        await again.wait()


async def test_no_more_than_so_many_run_at_once() -> None:
    running_now, most, left = 0, 0, 20
    done = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal running_now, most, left
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0)
        running_now -= 1
        left -= 1
        if not left:
            done.set()

    async with running(handle, [], at_once=3) as queue:
        for number in range(20):
            queue.add(str(number))
        await done.wait()
    assert most == 3


async def test_a_failure_is_tried_again_and_told_once_it_repeats() -> None:
    tries, lines = 0, list[str]()
    done = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise HeliographError("not yet")
        done.set()

    async with running(handle, lines) as queue:
        queue.add("a")
        await done.wait()
    assert lines == ["a: not yet"]


async def test_a_key_that_waits_does_not_delay_others_and_comes_sooner_when_it_is_added_again() -> None:
    handled: asyncio.Queue[str] = asyncio.Queue()

    async def handle(key: str) -> None:
        handled.put_nowait(key)

    async with running(handle, []) as queue:
        queue.add("late", 3600)
        queue.add("soon")
        assert await handled.get() == "soon"
        queue.add("late")
        assert await handled.get() == "late"
        queue.add("end")
        assert await handled.get() == "end"
    assert handled.empty()
