"""A stand-by takes over from a leader whose stored state is poisoned everywhere: it leads, runs the job that was under
way and a new one, and shows what it could not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import COORDINATOR as STATE
from heliograph.bus.contract.buckets import RESOURCES, ROUNDS
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

GUEST = "edge-9"
EDGES = ["edge-1", "edge-2"]
FLOOD = 1100
DEEP, HUGE, TORN = b'{"a":' + b"[" * 3000, b'{"n":1%s}' % (b"0" * 30), rb'{"s":"\ud83d"}'
RUNNING = {
    "apiVersion": "edgeai.io/v1alpha1", "kind": "FederatedTask", "metadata": {"name": "ghost", "uid": "ghost-uid"},
    "spec": {
        "aggregationWorker": {"model": {"name": "nothing"}}, "rounds": 3,
        "trainingWorkers": [{"name": "w", "nodeName": "edge-77"}],
    },
    "status": {
        "phase": "Running", "step": "training", "round": 1 << 40, "participants": ["edge-77", "edge-1"],
        "assignments": {"w": "edge-77"}, "model": {"digest": "0" * 64, "size": 77_000}, "updatesFrom": 1 << 50,
    },
}  # fmt: skip
"""A readable job whose status no coordinator has written."""
POISON = {
    "models.deep": DEEP, "models.huge": HUGE, "models.torn": TORN, "models.empty": b"", "jobs.binary": b"\xc1\xff\0",
    "jobs.other": b'{"kind":"Model","metadata":{"name":"another"}}', "services.list": b"[]", "x": b"{}",
    "datasets.status": b'{"kind":"Dataset","metadata":{"name":"status"},"status":{"edges":[1]}}',
    "algorithms.fedavg": b'{"kind":"Algorithm","metadata":{"name":"fedavg"},"spec":{"parameters":7}}',
    "edges.edge-1": b'{"kind":"Edge","metadata":{"name":"edge-1"},"status":{"online":"perhaps"}}',
    "unknown.a.b": b"{}",
}  # fmt: skip
REMADE = {"edges.edge-1", "algorithms.fedavg"}
"""Resources that reports make anew."""


async def _connected(stack: AsyncExitStack, url: str, name: str, inbox: str = "") -> NatsBus:
    bus = await stack.enter_async_context(connect(url, name=name, inbox=inbox))
    await bus.link.wait_up(HANGS)
    assert isinstance(bus, NatsBus)
    return bus


async def _send(bus: NatsBus, topic: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    await bus.connection.request(bus.subjects.subject(topic), body, headers=headers)


async def _poison_streams(coordinator: NatsBus, guest: NatsBus) -> None:
    report = {"edge": GUEST, "observed": {"epoch": 0, "n": 0}}
    event = {"specversion": "1.0", "id": "1", "source": f"{GUEST}/agent/1", "type": topics.REPORT.type, "data": report}
    for body in (DEEP, HUGE, TORN, b"\xff", json.dumps(event | {"data": {"edge": "edge-1"}}).encode()):
        await _send(guest, topics.REPORT.at(edge=GUEST), body)
        await _send(guest, topics.EVALUATION.at(job="job", edge=GUEST), body)
        await _send(guest, topics.INFERENCE_STATS.at(service="s", edge=GUEST, worker="w"), body)
        await _send(guest, topics.MODEL_UPDATE.at(job="job", edge=GUEST), body, {"Status": "404"})
    # the broker answers so where a stream is empty; a publisher may write the same
    await _send(guest, topics.REPORT.at(edge=GUEST), json.dumps(event).encode(), {"Status": "404"})
    for edge, body in (("edge-1", DEEP), ("edge-2", b"\xff"), ("edge-77", TORN)):
        await _send(coordinator, topics.TASK.at(edge=edge), body)


async def _poison_buckets(coordinator: NatsBus, job: dict[str, Any]) -> None:
    resources, state = await coordinator.kv(RESOURCES), await coordinator.kv(STATE)
    for key, value in (POISON | {"jobs.ghost": json.dumps(RUNNING).encode()}).items():
        await resources.put(key, value)
    rounds = await coordinator.kv(ROUNDS)
    uid, round = job["metadata"]["uid"], job["status"]["round"]
    for number, value in enumerate((DEEP, b"\xff", TORN, b"{}"), round):
        await rounds.put(f"{uid}.{number}", value)
    await rounds.put(f"ghost-uid.{1 << 40}", HUGE)
    await state.put("epoch", b"9" * 5000)
    await state.put("leader", b'{"holder":["x"],"incarnation":' + b"[" * 2000)


async def _flood(guest: NatsBus) -> None:
    """Send an edge's updates for another job of this name."""
    update = {"job": "gated", "job_uid": "another", "round": 1, "edge": GUEST, "num_samples": 1,
              "weights": {"digest": "0" * 64, "size": 77_000}}  # fmt: skip
    event = {"specversion": "1.0", "id": "1", "source": f"{GUEST}/w/1", "type": topics.MODEL_UPDATE.type}
    body = json.dumps(event | {"data": update}).encode()
    for _ in range(FLOOD):
        await _send(guest, topics.MODEL_UPDATE.at(job="gated", edge=GUEST), body)


@pytest.mark.long
async def test_a_stand_by_takes_over_poisoned_state(
    tmp_path: Path, gates: Any, regression: Callable[..., Path], task: Callable[..., dict[str, Any]]
) -> None:
    script = gates()
    (script.code / "train.py").write_text((Path(__file__).parents[1] / "data" / "code" / "train.py").read_text())
    datasets = {edge: {"data": regression(edge)} for edge in EDGES}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            LocalCluster(tmp_path / "cluster", EDGES, code=(script.code,), datasets=datasets, guests=[GUEST])
        )
        client = await stack.enter_async_context(AsyncClient(cluster.server, timeout=HANGS))
        coordinator = await _connected(stack, cluster.broker.url("coordinator"), "damage")
        guest = await _connected(stack, cluster.agent_url(GUEST), f"agent-{GUEST}", inbox_of(GUEST))
        await cluster.start_coordinator("second")
        await cluster.wait_for_line("second", "stands by")
        for model in ("count", "line"):
            await client.models.create({"kind": "Model", "metadata": {"name": model}})
        worker = {"trainScriptBootFile": "gated.py"}
        spec = {
            "aggregationWorker": {"model": {"name": "count"}}, "rounds": 3,
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        }  # fmt: skip
        await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})
        script.open("edge-1-initial")
        for edge in EDGES:
            await cluster.wait_for_line(edge, f"at gate {edge}-1")
        job = await client.jobs.get("gated")

        await cluster.kill(COORDINATOR)
        await _poison_streams(coordinator, guest)
        await _poison_buckets(coordinator, job)
        await cluster.wait_for_line("second", "coordinator is ready", HANGS)

        await _flood(guest)
        for number in (1, 2, 3):
            script.open(*(f"{edge}-{number}" for edge in EDGES))
        await _succeeds(client, "gated", 3)
        refused = (await client.jobs.get("gated"))["status"]
        assert refused["refusedCount"] + refused["unnotedCount"] >= FLOOD > 10 * refused["refusedCount"]
        await client.jobs.create(task("honest", EDGES, rounds=2))
        await _succeeds(client, "honest", 2)
        shown = {each["spec"]["key"] for each in await client.resources("quarantines").list()}
        assert {*POISON} - REMADE <= shown, {*POISON} - shown
        assert cluster.exit_code("second") is None
        lines = cluster.lines("second")
        assert not [line for line in lines if "Traceback" in line or "by a defect" in line], lines


async def _succeeds(client: AsyncClient, name: str, rounds: int) -> None:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch(name):  # noqa: B007 the last one counts
            pass
    status = document["status"]
    assert status["phase"] == "Succeeded", status
    assert [each["counted"] for each in status["rounds"]] == [2] * rounds
