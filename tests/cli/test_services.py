"""Joint inference services on the command line: applied, shown, watched, stopped, started again, deleted."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import InferenceStats
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.port import Port
from heliograph.cli.cells import latency, percent
from heliograph.cli.features.service_columns import numbers_line
from heliograph.cli.presentation import table
from heliograph.core.world import World
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _documents(name: str, **spec: Any) -> str:
    service = {
        "kind": "JointInferenceService",
        "metadata": {"name": name},
        "spec": {
            "edgeWorker": {"model": {"name": "m"}, "scriptBootFile": "absent.py"},
            "cloudWorker": {"model": {"name": "m"}, "scriptBootFile": "absent.py"},
        }
        | spec,
    }
    return json.dumps([{"kind": "Model", "metadata": {"name": "m"}}, service])


async def _count(cluster: Any, document: dict[str, Any], **counts: Any) -> None:
    """Publish the statistics of edge-1's worker with its agent's permissions."""
    name, world = document["metadata"]["name"], World()
    bus = connect(cluster.agent_url("edge-1"), name="played", inbox=inbox_of("edge-1"))
    worker = f"{name}-infer"
    async with bus:
        await bus.link.wait_up(HANGS)
        stats = InferenceStats(
            service=name, service_uid=document["metadata"]["uid"], edge="edge-1", worker=worker, incarnation="a",
            **counts,
        )  # fmt: skip
        port = Port(bus, world, f"edge-1/{worker}/a")
        await port.publish(topics.INFERENCE_STATS, stats, service=name, edge="edge-1", worker=worker)


async def test_a_service_from_apply_to_delete(cli: Any, cluster: Any, read_until: Any) -> None:
    applied = await cli("apply", "-f", "-", stdin=_documents("life"))
    answering = "0 of 1 edges and 0 of 1 replicas of the deep model answer"
    assert applied.out.splitlines() == ["model/m created", f"service/life created (Pending): {answering}"]
    watching = await cli.start("watch", "services/life")
    assert await read_until(watching.stdout, "Pending") == "service/life Pending"
    assert "absent.py is not on this node" in await read_until(watching.stdout, "WorkersHealthy=False")

    document = json.loads((await cli("get", "service", "life", "-o", "json")).out)
    await _count(cluster, document, by_edge=3, by_cloud=1, compared=1, agreed=1, latencies={"14": 4}, degraded=1)
    message = await read_until(watching.stdout, "4 requests")
    assert message == "4 requests  25.0 % offloaded  agreement 100.0 %  p50 1.1 ms  p99 1.1 ms  1 degraded"
    head, row = (await cli("get", "services/life")).out.splitlines()
    assert head.split()[:8] == ["NAME", "PHASE", "EDGES", "REQUESTS", "OFFLOAD", "AGREEMENT", "P50", "P99"]
    assert row.split()[:8] == ["life", "Pending", "1/1", "4", "25.0%", "100.0%", "1.1ms", "1.1ms"]
    assert "edge-1: script absent.py is not on this node" in row
    assert "1 degraded" in row

    changed = _documents("life", hardSampleRule={"parameters": [{"key": "value", "value": 0.5}]})
    updated = (await cli("apply", "-f", "-", stdin=changed)).out.splitlines()[-1]
    assert updated.startswith("service/life updated (Pending)")
    await read_until(watching.stdout, "spec changed: generation 2")
    assert (await cli("stop", "services/life")).out == "service/life stopped\n"
    await read_until(watching.stdout, "service/life Stopped")
    assert (await cli("stop", "services", "life")).out == "service/life had ended already (Stopped)\n"
    assert "stopped on request" in (await cli("get", "services")).out
    assert (await cli("start", "services/life")).out.startswith("service/life started (Pending)")
    assert (await cli("start", "services/life")).out.startswith("service/life was not stopped (Pending)")
    await read_until(watching.stdout, "service/life Pending")
    assert (await cli("delete", "services/life")).out == "service/life deleted\n"
    await read_until(watching.stdout, "service/life deleted")
    assert await watching.wait() == 3


async def test_ctrl_c_ends_a_watch(cli: Any, read_until: Any) -> None:
    await cli("apply", "-f", "-", stdin=_documents("watched"))
    watching = await cli.start("watch", "services/watched")
    await read_until(watching.stdout, "Pending")
    watching.send_signal(signal.SIGINT)
    assert await watching.wait() == 130
    assert (await cli("delete", "services/watched")).code == 0


async def test_a_bad_document_names_its_line(cli: Any) -> None:
    bad = _documents("bad", deadlineSeconds=-1)
    ran = await cli("apply", "-f", "-", stdin=bad)
    assert ran.code == 1
    assert "field spec.deadlineSeconds: expected greater than 0, got -1" in ran.error
    ran = await cli("apply", "-f", "-", stdin=_documents("bad", edges=[]))
    assert "field spec.edges.names: expected " in ran.error


async def test_numbers_are_formatted_for_people() -> None:
    shown = {None: "", 0.0001: "0.1 ms", 0.00119: "1.2 ms", 0.0352: "35 ms", 1.5: "1.5 s"}
    assert {each: latency(each) for each in shown} == shown
    assert [percent(each) for each in (None, 0.0, 0.2514)] == ["", "0.0 %", "25.1 %"]
    assert numbers_line({"requests": 7, "offloadRatio": 0.0, "errors": 2}) == "7 requests  0.0 % offloaded  2 errors"
    new = {"metadata": {"name": "new"}, "spec": {}, "status": {}}
    _, rows = table("services", [new], 0.0)
    assert rows == [["new", "", "0/0", "0", "", "", "", "", "", ""]]
