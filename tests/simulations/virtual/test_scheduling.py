"""Jobs on one edge that has room for one of their workers, with the real coordinator and agents, in virtual time."""

from __future__ import annotations

import json
from typing import Any

from heliograph.bus.transport import Bus
from heliograph.edge_agent.admission import Capacity
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import SCRIPT, EdgeSpec, VirtualCluster
from tests.simulations.virtual.jobs import Status, ask, ended, until

NODE = Capacity(8 << 30, ("0",))


async def _job(bus: Bus, name: str, rounds: int, **spec: Any) -> None:
    worker = {"trainScriptBootFile": SCRIPT, "resources": {"memory": "1Gi", "gpus": 1}}
    await ask(bus, "jobs", "create", {"kind": "FederatedTask", "metadata": {"name": name}, "spec": {
        "aggregationWorker": {"model": {"name": "echo"}}, "rounds": rounds, "roundDeadlineSeconds": 5,
        "trainingWorkers": [{"name": "w", "nodeName": "edge-1", "workerSpec": worker}], **spec,
    }})  # fmt: skip


def _scheduled(status: Status) -> tuple[str, str]:
    found = [each for each in status.get("conditions", ()) if each["type"] == "Scheduled"]
    return (found[0]["status"], found[0].get("message", "")) if found else ("", "")


def test_a_higher_priority_takes_the_place_of_a_lower_one_which_goes_on_afterwards() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = VirtualCluster(loop, [EdgeSpec("edge-1", capacity=NODE)], Echo(4), 1)
        await cluster.start()
        async with cluster.client() as bus:
            await ask(bus, "models", "create", {"kind": "Model", "metadata": {"name": "echo"}})
            await _job(bus, "low", 40)
            await until(bus, "low", lambda status: status["round"] > 3)
            await _job(bus, "equal", 3)
            waits = await until(bus, "equal", lambda status: _scheduled(status)[0] == "False")
            assert _scheduled(waits)[1] == ("edge-1: waits for 1 GPU: 1 of 1 taken, by low (priority 0)")
            await _job(bus, "high", 5, priority=5)
            waits = await until(bus, "low", lambda status: _scheduled(status)[0] == "False")
            assert _scheduled(waits)[1] == "edge-1: waits for 1 GPU: 1 of 1 taken, by high (priority 5)"
            assert (await until(bus, "high", ended))["phase"] == "Succeeded"
            assert waits["phase"] == "Running"
            low = await until(bus, "low", ended)
            assert (low["phase"], _scheduled(low)[0]) == ("Succeeded", "True")
            assert [each["counted"] for each in low["rounds"]] == [1] * 40
            assert (await until(bus, "equal", ended))["phase"] == "Succeeded"
            edge = await ask(bus, "edges", "get", {"name": "edge-1"})
            assert (edge["status"]["memory"], edge["status"]["gpus"]) == (8 << 30, 1)
        assert cluster.worker_failures == []
        await cluster.stop()

    run(main)


def test_what_no_edge_has_leaves_the_job_pending_with_the_reason() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = VirtualCluster(loop, [EdgeSpec("edge-1", capacity=Capacity(1 << 20, ()))], Echo(4), 1)
        await cluster.start()
        async with cluster.client() as bus:
            await ask(bus, "models", "create", {"kind": "Model", "metadata": {"name": "echo"}})
            await _job(bus, "large", 3)
            words = "node edge-1 does not have as much memory as training worker w asks for"
            await until(bus, "large", lambda status: words in json.dumps(status["conditions"]))
        await cluster.stop()

    run(main)
