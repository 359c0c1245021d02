"""The virtual loop: time without waiting, a fixed order, and processes killed between two steps."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.simulations.virtual.loop import PROCESS, Process, Stuck, VirtualLoop, run


def test_a_year_passes_at_once_and_timers_fire_in_their_order() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[float, str]]:
        seen: list[tuple[float, str]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((loop.time(), name))

        await asyncio.gather(sleeper("year", 31_536_000), sleeper("second", 1), sleeper("also", 1))
        return seen

    assert run(main) == [(1.0, "second"), (1.0, "also"), (31_536_000.0, "year")]


def test_a_timeout_counts_virtual_time() -> None:
    async def main(loop: VirtualLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return loop.time()

    assert run(main) == 3600.0


def test_waiting_for_an_impossible_event_raises_stuck() -> None:
    async def main(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(main)


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_killed_process_takes_no_further_step_not_even_its_finally(steps: int) -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        process, did = Process("victim"), list[str]()

        async def work() -> None:
            try:
                for number in range(10):
                    did.append(str(number))
                    await asyncio.sleep(1)
            finally:
                did.append("finally")

        process.dies_at = steps
        process.context.run(loop.create_task, work())
        await asyncio.sleep(60)
        assert process.dead
        return list(did)  # copied, because the end of the loop closes the remaining coroutines

    did = run(main)
    assert "finally" not in did
    assert len(did) < 10
    assert did == [str(number) for number in range(len(did))]


def test_tasks_belong_to_the_process_that_starts_them() -> None:
    async def main(loop: VirtualLoop) -> list[bool]:
        process, alive = Process("parent"), list[bool]()

        async def child() -> None:
            assert PROCESS.get() is process
            while True:
                await asyncio.sleep(1)
                alive.append(True)

        async def parent() -> None:
            running = asyncio.create_task(child())
            await running

        process.context.run(loop.create_task, parent())
        await asyncio.sleep(3.5)
        loop.kill(process)
        await asyncio.sleep(10)
        return alive

    assert run(main) == [True] * 3


def test_queued_work_of_an_executor_dies_with_the_process() -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        loop.disk_seconds = 0.5
        process, disk = Process("writer"), list[str]()

        async def write() -> None:
            for line in ("one", "two"):
                await loop.run_in_executor(None, disk.append, line)

        process.context.run(loop.create_task, write())
        await asyncio.sleep(0.75)
        loop.kill(process)
        await asyncio.sleep(5)
        return disk

    assert run(main) == ["one"]
