"""Tasks are cancelled reliably; flags wake all waiters."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from heliograph.core import tasks as tasks_module
from heliograph.core.tasks import Background, Flag, cancel_and_wait, keep_cancellation, keep_running
from heliograph.core.world import World
from tests.patience import HANGS


class Longest(random.Random):
    """Draws the longest pause each time."""

    def random(self) -> float:
        return 1.0


async def stubborn(swallows: int, began: asyncio.Event) -> None:
    """Swallow ``swallows`` cancellations, and end at the next."""
    began.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if swallows == 0:
                raise
            swallows -= 1


async def test_a_task_that_swallows_cancellations_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module, "CANCEL_RETRY_SECONDS", 0.01)
    began = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(stubborn(swallows, event)) for swallows, event in enumerate(began)]
    for event in began:
        await event.wait()
    async with asyncio.timeout(HANGS):
        await cancel_and_wait(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_an_error_in_one_task_does_not_keep_others_running() -> None:
    async def fails() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise RuntimeError("at its end")

    began = asyncio.Event()
    tasks = [asyncio.create_task(fails()), asyncio.create_task(stubborn(0, began))]
    await began.wait()
    await cancel_and_wait(*tasks)
    await cancel_and_wait()
    assert isinstance(tasks[0].exception(), RuntimeError)
    assert tasks[1].cancelled()


async def test_closing_background_cancels_its_tasks() -> None:
    background = Background(lambda line: None)
    began = asyncio.Event()
    background.spawn(stubborn(0, began))
    await began.wait()
    await background.close()


@pytest.mark.parametrize("error", [None, ConnectionError("nobody answers")])
async def test_a_cancellation_swallowed_by_a_library_still_ends_a_task_group(error: Exception | None) -> None:
    began = asyncio.Event()

    async def swallows() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            began.set()
            await asyncio.Event().wait()
        if error is not None:
            raise error

    async def part() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                await keep_cancellation(swallows())

    async def parts() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())

    running = asyncio.create_task(parts())
    await began.wait()
    async with asyncio.timeout(HANGS):
        await cancel_and_wait(running)
    assert running.cancelled()


async def test_a_cancelled_task_may_still_await_in_its_cleanup() -> None:
    async def cleans_up() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await keep_cancellation(asyncio.sleep(0, "clean"))
        return "never"

    task = asyncio.create_task(cleans_up())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "clean"


async def test_a_flag_wakes_all_waiters_though_it_is_cleared_before_they_run() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(2)]
    given_up = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    given_up.cancel()
    flag.set()
    flag.clear()
    await asyncio.gather(*waiting)
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert not flag.is_set()
    flag.set()
    await flag.wait()


async def test_a_part_with_a_defect_is_run_again_and_its_defect_said_once() -> None:
    pauses: list[float] = []
    warned: list[str] = []
    runs = 0

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def part() -> None:
        nonlocal runs
        runs += 1
        if runs < 5:
            raise ExceptionGroup("tasks", [KeyError("x")])

    await keep_running(part, World(sleep=sleep, rng=Longest()), warned.append)
    assert runs == 5
    assert pauses == sorted(set(pauses))  # each is longer than the one before
    assert len(warned) == 1
    assert "part: not handled, by a defect of this program: KeyError" in warned[0]


async def test_a_defect_of_a_background_task_is_said() -> None:
    said = asyncio.Event()
    warned: list[str] = []

    def warn(line: str) -> None:
        warned.append(line)
        said.set()

    async def fails() -> None:
        raise KeyError("x")

    background = Background(warn)
    background.spawn(fails())
    async with asyncio.timeout(HANGS):
        await said.wait()
    assert "fails: not handled, by a defect of this program: KeyError" in warned[0]
    await background.close()
