"""A card is put back, a cloud is lost and rebuilt or restored, somebody publishes what he has recorded: nothing is
stuck for ever."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EDGE = "edge-1"
pytestmark = pytest.mark.long


class Site:
    """A cluster of one edge whose cloud, or whose edge, can be put back to an earlier state."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cluster"
        self.data = directory / "data"
        self.data.mkdir()
        self.sent = 0
        self.indexed = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LocalCluster]:
        async with LocalCluster(self.directory, [EDGE], data=(self.data,)) as cluster:
            yield cluster

    async def steered(self, cluster: LocalCluster) -> None:
        """Return once the edge has carried out something that is new to it: it indexes another data set."""
        self.indexed += 1
        name = f"set-{self.indexed}"
        (self.data / f"{name}.csv").write_text("a,b\n1,2\n")
        async with AsyncClient(cluster.server, timeout=HANGS, leader_timeout=HANGS) as client:
            spec = {"url": str(self.data / f"{name}.csv"), "format": "csv", "nodeName": EDGE}
            await client.datasets.create({"kind": "Dataset", "metadata": {"name": name}, "spec": spec})
            async with asyncio.timeout(HANGS):
                async with connect(cluster.server) as bus:
                    async with bus.consume(topics.REPORT.filter(), start=1) as reports:
                        async for each in reports:
                            report = decode(each.body).data
                            if report["edge"] == EDGE and name in [found["name"] for found in report["datasets"]]:
                                return

    async def device_sends(self, cluster: LocalCluster, count: int) -> None:
        """Publish as a device that numbers what it says, and return once the last of it is in the cloud."""
        node = cluster.nodes[EDGE].broker
        assert node is not None
        async with connect(node.url("", "mqtt")) as device, connect(cluster.server) as cloud:
            await device.link.wait_up(HANGS)
            await cloud.link.wait_up(HANGS)
            for _ in range(count):
                self.sent += 1
                reading = json.dumps({"n": self.sent}).encode()
                await device.publish(topics.TELEMETRY.at(edge=EDGE, device="meter"), reading)
            async with asyncio.timeout(HANGS), cloud.consume(topics.TELEMETRY.filter(), start=1) as events:
                async for each in events:
                    if decode(each.body).data["n"] == self.sent:
                        return

    async def stored(self, cluster: LocalCluster) -> Counter[int]:
        """Return how often each of the device's events is in the cloud."""
        found: Counter[int] = Counter()
        async with connect(cluster.server) as cloud:
            await cloud.link.wait_up(HANGS)
            last = await cloud.last_sequence("TELEMETRY")
            async with cloud.consume(topics.TELEMETRY.filter(), start=1) as events:
                async for each in events:
                    found[decode(each.body).data["n"]] += 1
                    if each.sequence == last:
                        return found
        return found

    async def pass_terms(self, cluster: LocalCluster, terms: int) -> None:
        """Let so many coordinators lead after each other."""
        for _ in range(terms):
            await stopped(cluster, "coordinator")
            await cluster.start_coordinator()
            await cluster.wait_ready()

    @property
    def store(self) -> Path:
        return self.directory / "broker" / "store"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def stopped(cluster: LocalCluster, name: str) -> None:
    child = cluster._coordinators.get(name) or cluster.nodes[name].child
    assert child is not None
    await child.stop()


async def generation(cluster: LocalCluster) -> dict[str, Any]:
    async with connect(cluster.server) as bus:
        await bus.link.wait_up(HANGS)
        message = await bus.last(topics.TASK.at(edge=EDGE))
        assert message is not None
        found: dict[str, Any] = decode(message.body).data["generation"]
        return found


async def test_a_card_that_was_put_back_loses_none_of_200_events(site: Site) -> None:
    async with site.running() as cluster:
        state = cluster.nodes[EDGE].directory / "state"
        await site.device_sends(cluster, 100)
        await stopped(cluster, EDGE)
        shutil.copytree(state, site.directory / "copy")
        await cluster.start_agent(EDGE)
        await cluster.wait_ready()
        await site.device_sends(cluster, 200)
        await stopped(cluster, EDGE)
        shutil.rmtree(state)
        (site.directory / "copy").rename(state)
        await cluster.start_agent(EDGE)
        await cluster.wait_ready()
        await site.device_sends(cluster, 200)
        found = await site.stored(cluster)
        assert (len(found), sum(found.values())) == (500, 500)
        assert len([line for line in cluster.lines(EDGE) if "this journal is an earlier copy" in line]) == 1


async def test_a_cloud_that_lost_its_store_steers_its_edges_again(site: Site) -> None:
    async with site.running() as cluster:
        await site.pass_terms(cluster, 2)
        await site.steered(cluster)
        assert (await generation(cluster))["epoch"] == 3
    shutil.rmtree(site.store)
    async with site.running() as cluster:
        await site.steered(cluster)
        assert (await generation(cluster))["epoch"] == 4
        said = "edge edge-1 has a document of a later epoch than this cloud's 1"
        assert [line for line in cluster.lines("coordinator") if said in line]


async def test_a_cloud_from_a_backup_steers_edges_that_went_on_without_it(site: Site) -> None:
    async with site.running() as cluster:
        await site.steered(cluster)
    shutil.copytree(site.store, site.directory / "backup")
    async with site.running() as cluster:
        await site.pass_terms(cluster, 2)
        await site.steered(cluster)
    shutil.rmtree(site.store)
    (site.directory / "backup").rename(site.store)
    async with site.running() as cluster:
        await site.steered(cluster)


async def test_a_store_that_is_lost_under_a_running_agent_is_noticed(site: Site) -> None:
    """The agent's report has not changed, and the new cloud does not have it."""
    async with site.running() as cluster:
        await site.pass_terms(cluster, 1)
        await site.steered(cluster)
        await stopped(cluster, "coordinator")
        await cluster.broker.stop()
        shutil.rmtree(site.store)
        await cluster.broker.start()
        await cluster.start_coordinator()
        await cluster.wait_ready()
        await site.steered(cluster)


async def test_recorded_documents_that_somebody_publishes_again_stick_nowhere(site: Site) -> None:
    """Whoever has the rights of the broker can publish them; they are signed."""
    task = topics.TASK.at(edge=EDGE)
    async with site.running() as cluster:
        await site.pass_terms(cluster, 2)
        await site.steered(cluster)
        async with connect(cluster.broker.url("coordinator")) as bus:
            await bus.link.wait_up(HANGS)
            recorded = await bus.last(task)
    assert recorded is not None
    shutil.rmtree(site.store)
    shutil.rmtree(site.directory / EDGE / "state")  # of a new card: it holds nothing
    async with site.running() as cluster:
        await site.steered(cluster)
        assert (await generation(cluster))["epoch"] == 1
        async with connect(cluster.broker.url("coordinator")) as bus:
            await bus.link.wait_up(HANGS)
            await bus.publish(task, recorded.body)  # of epoch 3
        await site.steered(cluster)
        assert (await generation(cluster))["epoch"] == 4
