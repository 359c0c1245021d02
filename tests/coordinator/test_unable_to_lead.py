"""A leader that cannot prepare gives the lease back, and the coordinator that stands by leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.coordinator.features.federated.controller import FederatedController
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.simulations.virtual.loop import VirtualLoop, run


async def _raise() -> None:
    _ = 1 // 0


async def _hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("fail", [_raise, _hang])
def test_the_one_that_stands_by_takes_over_from_a_leader_with_poisoned_state(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[[], Awaitable[None]]
) -> None:
    lines: dict[str, list[str]] = {"first": [], "second": []}

    async def main(loop: VirtualLoop) -> None:
        worlds = {name: World(monotonic=loop.time, now=loop.time) for name in lines}
        second_stands_by, second_leads = asyncio.Event(), asyncio.Event()
        prepare = FederatedController.prepare

        async def poisoned(controller: Any) -> None:
            if controller.context.port.world is worlds["first"]:
                await second_stands_by.wait()
                await fail()
            await prepare(controller)

        monkeypatch.setattr(FederatedController, "prepare", poisoned)

        def start(name: str) -> asyncio.Task[None]:
            def out(line: str) -> None:
                lines[name].append(line)
                if name == "second" and "stands by" in line:
                    second_stands_by.set()
                if name == "second" and line == "coordinator is ready":
                    second_leads.set()

            config = CoordinatorConfig(nats=f"memory://poisoned-{fail.__name__}", name=name)
            return asyncio.create_task(Coordinator(config, worlds[name], out).run())

        first = start("first")
        await asyncio.sleep(1)
        second = start("second")
        async with asyncio.timeout(300):
            await second_leads.wait()
            while not any("stands by; second leads" in line for line in lines["first"]):
                await asyncio.sleep(1)
        assert not first.done()
        await cancel_and_wait(first, second)

    run(main)
    assert any("cannot lead" in line for line in lines["first"]), lines
    assert not any(line == "coordinator is ready" for line in lines["first"])
