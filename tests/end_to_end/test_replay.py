"""A job's trace, replayed into its own cluster during and after the job, counts nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.replaying import Replayer, ReplayOutcome
from heliograph.bus.traces.schedule import Choice, Span
from heliograph.bus.traces.writing import TraceWriter
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EDGES = ("edge-1", "edge-2")
ROUNDS = 3
FACTS = ("edge/+/up/model-update/#", "edge/+/up/evaluation/#", "event/aggregation/#")


@pytest.mark.long
async def test_a_trace_replayed_into_its_own_job_changes_nothing(tmp_path: Path, regression: Any, gates: Any) -> None:
    script = gates()
    datasets = {"cloud": {"held-out": regression("held-out")}}
    async with LocalCluster(tmp_path / "cluster", list(EDGES), datasets=datasets, code=(script.code,)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            async with recording(cluster, tmp_path / "running.mcap"):
                await create(client)
                script.open("cloud-evaluate", *(f"{edge}-{gate}" for edge in EDGES for gate in ("initial", 1)))
                for edge in EDGES:
                    await cluster.wait_for_line(edge, f"at gate {edge}-2")
            outcome = await replay(cluster, tmp_path / "running.mcap", *FACTS)  # round 1 is closed, round 2 is open
            assert outcome.complete and outcome.published >= 3, outcome
            assert await updates_of(tmp_path / "running.mcap") >= 2
            async with recording(cluster, tmp_path / "rest.mcap"):
                script.open("edge-1-2")
                await until_recorded(cluster, "edge/edge-1/up/model-update/gated", 2)
                # edge-1 has answered round 2, edge-2 has not; the replay repeats edge-1's update
            assert (await replay(cluster, tmp_path / "rest.mcap", *FACTS)).complete
            script.open("edge-2-2", *(f"{edge}-3" for edge in EDGES))
            before = await ended(client)
            assert before["phase"] == "Succeeded", before
            assert [(each["round"], each["counted"], each["numSamples"]) for each in before["rounds"]] == [
                (round, 2, 20) for round in range(1, ROUNDS + 1)
            ]
            assert before["evaluation"] == {"mean": ROUNDS}
            model = await client.download("count", tmp_path / "model.safetensors")
            with TensorFile(model) as file:
                np.testing.assert_array_equal(file.numpy("w"), np.full(3, ROUNDS, np.float32))

            for trace in ("running.mcap", "rest.mcap"):
                assert (await replay(cluster, tmp_path / trace, *FACTS)).complete
            await client.models.create({"kind": "Model", "metadata": {"name": "after"}})  # follows the replayed events
            after = (await client.jobs.get("gated"))["status"]
            for name in ("phase", "rounds", "evaluation", "round"):
                assert after[name] == before[name]
            assert len((await client.models.get("count"))["status"]["versions"]) == 1


@asynccontextmanager
async def recording(cluster: LocalCluster, path: Path) -> AsyncIterator[None]:
    world = World()
    async with connect(cluster.server, world=world, name="trace") as bus:
        await bus.link.wait_up(HANGS)
        with TraceWriter(path) as writer:
            recorder = Recorder(bus, writer, world)
            running = asyncio.create_task(recorder.run())
            await recorder.ready.wait()
            yield
            recorder.stop()
            outcome = await running
            # a loaded machine may cut the link for a moment; what streams keep is recorded all the same
            assert not (outcome.dropped or outcome.missing_blobs or outcome.unstored or outcome.cut), outcome


async def replay(cluster: LocalCluster, path: Path, *patterns: str) -> ReplayOutcome:
    world = World()
    async with connect(cluster.broker.url("coordinator"), world=world, name="replay") as bus:
        await bus.link.wait_up(HANGS)
        with TraceReader(path) as reader:
            replayer = Replayer(bus, world, choice=Choice(patterns), speed=0)
            return await replayer.run(reader, Span(0, reader.info.end))


async def create(client: AsyncClient) -> None:
    await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
    worker = {"trainScriptBootFile": "gated.py"}
    spec = {
        "aggregationWorker": {"model": {"name": "count"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        "evaluationWorker": {"dataset": {"name": "held-out"}},
        "rounds": ROUNDS,
    }
    await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})


async def updates_of(path: Path) -> int:
    with TraceReader(path) as reader:
        return sum(1 for each in reader if "/up/model-update/" in each.topic)


async def until_recorded(cluster: LocalCluster, address: str, round: int) -> None:
    """Wait for the update of that round in the cloud's stream."""
    async with connect(cluster.server, name="waiting") as bus:
        await bus.link.wait_up(HANGS)
        async with bus.consume(address) as messages, asyncio.timeout(HANGS):
            async for message in messages:
                event = decode(message.body)
                if event.data["round"] == round and not event.replayed:
                    return


async def ended(client: AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch("gated"):  # noqa: B007 the last one counts
            pass
    return dict(document["status"])
