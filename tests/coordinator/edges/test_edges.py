"""The edges' resources, with a clock as coarse as real ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import Generation, LoopReport, Offer, Report
from heliograph.bus.contract.resources import Edge, EdgeLearning, Metadata, Resource
from heliograph.bus.nats.authority_keys import Origin
from heliograph.coordinator.edges.damping import MAX_RETURNS, STEADY, WINDOW
from heliograph.coordinator.edges.edges import Edges
from heliograph.coordinator.edges.reported import edge_of
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background, keep_running
from heliograph.core.world import World
from tests.patience import HANGS

STEP = 1e-6
EARLY = 1.5 * STEP


@dataclass
class Clock:
    """A clock that moves with every reading; a sleep ends a little early, like the timers of coarse loops."""

    at: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.at += STEP
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await asyncio.sleep(0)
        self.at += max(seconds - EARLY, 0.0)


@contextlib.asynccontextmanager
async def edges_of(
    world: World, saved: list[Edge], changed: Callable[[], None] = lambda: None,
    origin: Callable[[str], Origin | None] = lambda edge: None,
) -> AsyncIterator[Edges]:  # fmt: skip
    bus = connect(f"memory://edges-{world.new_id()}", world=world)
    await bus.open()
    store = ResourceStore(await bus.kv("resources"), world)

    async def save(resource: Resource) -> None:
        known = store.get(type(resource), resource.name) is not None
        resource = await store.put(resource) if known else await store.create(resource)
        assert isinstance(resource, Edge)
        saved.append(resource)

    background = Background(pytest.fail)
    edges = Edges(store, world, save, changed, background, Failures(pytest.fail), origin)
    running = asyncio.create_task(keep_running(edges.run, world, pytest.fail))
    try:
        yield edges
    finally:
        running.cancel()
        await background.close()
        await bus.close()


async def test_a_flapping_edge_is_shown_online_when_it_is_steady_though_the_timer_ended_early() -> None:
    clock, saved = Clock(), list[Edge]()
    async with edges_of(World(monotonic=clock.monotonic, sleep=clock.sleep), saved) as edges:
        for _ in range(MAX_RETURNS + 1):
            edges.connection_changed("e", True)
            edges.connection_changed("e", False)
        edges.connection_changed("e", True)
        back = clock.at
        while not (saved and saved[-1].status.online):
            assert clock.at < back + STEADY + 1, "the steady edge is not shown online"
            await asyncio.sleep(0)
        assert saved[-1].status.conditions[0].status == "False"
        while saved[-1].status.conditions[0].status == "False":
            assert clock.at < back + WINDOW + 1, "the calm edge is still reported as flapping"
            await asyncio.sleep(0)
        assert len(clock.sleeps) < 10


def test_a_machine_that_cannot_enforce_its_site_policy_is_shown_until_it_can() -> None:
    def after(edge: Edge, *unenforced: str) -> Edge:
        return edge_of(edge, Report(edge="edge-1", observed=Generation(), unenforced=list(unenforced)), True, 0, "now")

    edge = after(Edge(metadata=Metadata(name="edge-1")))
    assert edge.status.conditions == []
    edge = after(edge, "the kernel has no Landlock")
    [shown] = edge.status.conditions
    assert (shown.type, shown.status, shown.message) == ("WorkersConfined", "False", "the kernel has no Landlock")
    [shown] = after(edge).status.conditions
    assert (shown.status, shown.reason) == ("True", "Enforced")


async def test_a_loop_that_has_deployed_is_looked_at_at_once_and_one_that_counts_samples_is_not() -> None:
    looks: list[None] = []
    async with edges_of(World(), [], lambda: looks.append(None)) as edges:

        def tell(**state: object) -> int:
            """Report a loop of this state, and return how many looks have been asked for."""
            loop = LoopReport(uid="u", state=EdgeLearning.model_validate(state))
            edges.reported("edge-1", Report(edge="edge-1", observed=Generation(), loops={"job": loop}))
            return len(looks)

        before = tell(round=1)
        assert tell(round=1, waiting=5) == before
        assert tell(round=1, waiting=6, deployed={"m": "1" * 64}) == before + 1


async def test_an_edge_that_was_deleted_and_comes_back_is_of_its_group_again_and_names_its_node() -> None:
    saved = list[Edge]()
    async with edges_of(World(), saved, origin={"e": Origin("hall", "edge-7")}.get) as edges:
        edges.connection_changed("e", True)
        async with asyncio.timeout(HANGS):
            while not saved:
                await asyncio.sleep(0)
    assert (saved[-1].status.invitation, saved[-1].status.node) == ("hall", "edge-7")


async def test_what_an_edges_workers_can_run_is_part_of_each_of_its_reports() -> None:
    looks: list[None] = []
    offers = Offer(frameworks={"numpy": "2.0"})
    async with edges_of(World(), [], lambda: looks.append(None)) as edges:

        def seen() -> dict[str, str]:
            report = edges.views()["e"].report
            assert report is not None
            return report.offers.frameworks

        edges.offered("e", offers)  # before its first report
        assert "e" not in edges.views()
        edges.reported("e", Report(edge="e", observed=Generation()))
        assert (seen(), len(looks)) == ({"numpy": "2.0"}, 1)
        edges.reported("e", Report(edge="e", observed=Generation(), refused_events=1))
        edges.offered("e", offers.model_copy())  # again, after its link came back
        assert (seen(), len(looks)) == ({"numpy": "2.0"}, 1)
        edges.offered("e", Offer())
        assert (seen(), len(looks)) == ({}, 2)
        await edges.forget("e")
        edges.reported("e", Report(edge="e", observed=Generation()))
        assert seen() == {}
