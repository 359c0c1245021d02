"""An edge that is deleted leaves nothing behind, and is made anew when its agent returns."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Generation, Report, UploadOffer, UploadSettled
from heliograph.bus.contract.permissions import inbox_of, upload_bucket
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.bus.contract.weights_file import dumps
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

GHOST = "ghost"
STATUS = topics.STATUS.at(resource="edges", name=GHOST)
REPORT, TASK = topics.REPORT.at(edge=GHOST), topics.TASK.at(edge=GHOST)
JOB = {
    "kind": "FederatedTask",
    "metadata": {"name": "on-ghost"},
    "spec": {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w", "nodeName": GHOST}]},
}
SERVICE = {
    "kind": "JointInferenceService",
    "metadata": {"name": "on-ghost"},
    "spec": {
        "edgeWorker": {"model": {"name": "m"}, "scriptBootFile": "a.py"},
        "cloudWorker": {"model": {"name": "m"}, "scriptBootFile": "a.py"},
        "edges": {"names": [GHOST]},
    },
}


@asynccontextmanager
async def agent(cluster: LocalCluster) -> AsyncIterator[Port]:
    """Play the ghost's agent."""
    login = f"agent-{GHOST}"
    async with connect(cluster.agent_url(GHOST), name=login, inbox=inbox_of(GHOST)) as bus:
        await bus.link.wait_up(HANGS)
        yield Port(bus, cluster.world, f"{GHOST}/agent/{cluster.world.new_id()}")


async def report(port: Port) -> None:
    index = DatasetIndex(name="rare", samples=5, columns={"x": "float32[3]"}, digest="0" * 64, format="npz")
    await port.publish(topics.REPORT, Report(edge=GHOST, observed=Generation(), datasets=[index]), edge=GHOST)


async def upload(port: Port, file: Path) -> None:
    """Hand weights over, as an agent does before the event that names them."""
    content = dumps({"w": np.zeros(300)})
    file.write_bytes(content)
    offer = UploadOffer(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    sending = asyncio.create_task(UploadSender(port, GHOST, lambda digest: file, Failures(print)).run())
    async with port.subscribe(topics.UPLOAD_SETTLED, print, edge=GHOST) as settled, asyncio.timeout(HANGS):
        taken = asyncio.ensure_future(anext(settled))
        while not taken.done():  # the coordinator may not listen yet
            await port.publish(topics.UPLOAD_OFFER, offer, edge=GHOST)
            await asyncio.wait([taken], timeout=0.5)
        assert (await taken).payload == UploadSettled(digests=[offer.digest])
    await cancel_and_wait(sending)


async def until(client: AsyncClient, **wanted: Any) -> dict[str, Any]:
    """Return the edge's status once it has these values."""
    async with client.bus.subscribe(STATUS) as changes, asyncio.timeout(HANGS):
        while True:
            found = [each for each in await client.edges.list() if each["metadata"]["name"] == GHOST]
            if found and all(found[0]["status"].get(key) == value for key, value in wanted.items()):
                status: dict[str, Any] = found[0]["status"]
                return status
            await anext(changes)


async def generation(bus: Bus) -> tuple[int, int]:
    """Return the generation of the edge's tasks, once they are published."""
    async with bus.subscribe(TASK) as changes, asyncio.timeout(HANGS):
        message = await bus.last(TASK) or await anext(changes)
    found = decode(message.body).data["generation"]
    return found["epoch"], found["n"]


async def heliograph(*words: str, server: str) -> tuple[int, str]:
    argv = (sys.executable, "-m", "heliograph.cli.main", *words, "--server", server)
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode().strip()


@pytest.mark.long
async def test_a_deleted_edge_is_gone_and_returns_anew(tmp_path: Path) -> None:
    async with (
        LocalCluster(tmp_path / "cluster", ["edge-1"], guests=[GHOST]) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        connect(cluster.broker.url(COORDINATOR), name="looking") as cloud,
    ):
        await cloud.link.wait_up(HANGS)
        assert isinstance(cloud, NatsBus)
        await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        async with agent(cluster) as port:
            await report(port)
            await until(client, online=True, datasets=["rare"])
            await upload(port, tmp_path / "weights")
            assert GHOST in (await client.datasets.get("rare"))["status"]["edges"]
            before = await generation(cloud)
            with pytest.raises(Refused, match=r"expected an edge that is offline, got ghost\. Stop its agent first"):
                await client.edges.delete(GHOST)
        await until(client, online=False)

        async with connect(cluster.door, name="watching") as door, door.subscribe(STATUS) as statuses:
            async with asyncio.timeout(HANGS):
                assert (await anext(statuses)).body
                said = await heliograph("delete", f"edges/{GHOST}", server=cluster.server)
                assert said == (0, f"edge/{GHOST} deleted")
                while (await anext(statuses)).body:
                    pass

        async def check_gone() -> None:
            with pytest.raises(Refused, match="expected one of cloud, edge-1, got ghost"):
                await client.edges.get(GHOST)
            assert await cloud.last(REPORT) is None
            assert await cloud.last(TASK) is None
            assert GHOST not in (await client.datasets.get("rare"))["status"].get("edges", {})
            bucket = await cloud.connection.ask(f"$JS.API.STREAM.INFO.OBJ_{upload_bucket(GHOST)}")
            assert bucket["error"]["description"] == "stream not found"

        await check_gone()
        job, service = await client.jobs.create(JOB), await client.services.create(SERVICE)
        assert "node ghost of training worker w is unknown" in job["status"]["conditions"][0]["message"]
        assert "none of its edges is known: ghost" in json.dumps(service["status"]["conditions"])
        await cluster.kill(COORDINATOR)
        await cluster.start_coordinator()
        await cluster.wait_ready(HANGS)
        await check_gone()

        async with agent(cluster) as port:
            await report(port)
            await until(client, online=True, datasets=["rare"])
            assert await generation(cloud) > before
            await upload(port, tmp_path / "weights")
            assert GHOST in (await client.datasets.get("rare"))["status"]["edges"]


async def test_an_agent_that_was_cut_off_while_its_edge_was_deleted_takes_part_again(tmp_path: Path) -> None:
    async with (
        LocalCluster(tmp_path / "cluster", [GHOST], relayed=(GHOST,)) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
    ):
        relay = cluster.nodes[GHOST].relay
        assert relay is not None
        version = (await until(client, online=True))["version"]
        assert version
        relay.cut()
        await until(client, online=False)
        await client.edges.delete(GHOST)
        relay.restore()
        await until(client, online=True, version=version)  # the report comes again


async def test_a_running_job_says_that_its_edge_is_unknown(tmp_path: Path, gates: Any, regression: Any) -> None:
    code = gates().code
    datasets = {GHOST: {"data": regression(GHOST)}}
    async with (
        LocalCluster(tmp_path / "cluster", [GHOST], datasets=datasets, code=(code,)) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
    ):
        await until(client, online=True, datasets=["data"])
        await client.models.create({"kind": "Model", "metadata": {"name": "m"}})
        spec = {
            "aggregationWorker": {"model": {"name": "m"}},
            "trainingWorkers": [
                {"name": "w", "nodeName": GHOST,
                 "workerSpec": {"dataset": {"name": "data"}, "trainScriptBootFile": "gated.py"}}
            ],
        }  # fmt: skip
        await client.jobs.create({**JOB, "spec": spec})
        async with asyncio.timeout(HANGS):
            async for job in client.jobs.watch("on-ghost"):
                if job["status"]["phase"] == "Running":
                    break
        await cluster.kill(GHOST)
        await until(client, online=False)
        await client.edges.delete(GHOST)
        async with asyncio.timeout(HANGS):
            async for job in client.jobs.watch("on-ghost"):
                if f"unknown: {GHOST}" in json.dumps(job["status"]["conditions"]):
                    break
        async with connect(cluster.broker.url(COORDINATOR), name="looking") as cloud:
            await cloud.link.wait_up(HANGS)
            assert await cloud.last(TASK) is None
