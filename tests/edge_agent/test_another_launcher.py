"""A launcher whose workers have no pipe and no process id, and share no directory with their agent.
A federated job runs on it to its end."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heliograph.bus.contract.topics import REQUEST, STATUS
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import CLOUD
from heliograph.edge_agent.launcher import Launcher, LaunchRequest, RunningWorker
from heliograph.requester import result_of
from heliograph.simulations.check.replay_stage import tree_of
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.virtual.loop import Process, VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import SCRIPT, EdgeSpec, VirtualCluster
from heliograph.simulations.virtual.virtual_launcher import Offers
from heliograph.simulations.virtual.worlds import Child, Worlds

EDGES = ("edge-1", "edge-2")
ELEMENTS = 100_000
"""Number of weights: 400 kB, too large for an event."""
ROUNDS = 3


@dataclass
class Pod:
    """A worker on another machine, which collects its log and may evict it."""

    child: Child
    evicted: bool = False
    lines: None = None

    async def wait(self) -> str:
        how = await self.child.wait()
        return "evicted" if self.evicted else how

    async def evict(self) -> None:
        self.evicted = True
        await self.kill()

    async def terminate(self) -> None:
        self.child.end(-15)

    async def kill(self) -> None:
        self.child.end()


class PodLauncher:
    """A launcher of workers with their own disk: it copies assigned files to it, and staged files back."""

    def __init__(self, worlds: Worlds, parent: Process, inbox: Path, pods: Path) -> None:
        self._worlds = worlds
        self._parent = parent
        self._inbox = inbox
        self._pods = pods
        self.launched: list[tuple[LaunchRequest, Pod]] = []
        self.discarded: list[tuple[str, str]] = []

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        place = self._pods / request.worker
        (place / "models").mkdir(parents=True, exist_ok=True)
        seen = replace(request, models=place / "models")
        pod = Pod(self._worlds.launch(self._parent, seen, place))
        self.launched.append((request, pod))
        return pod

    async def offers(self) -> bytes:
        return b'{"algorithms": {"FedAvg": {}}}'

    async def staged(self, worker: str, digest: str) -> Path | None:
        file = self._pods / worker / "staged" / digest
        if not file.exists():
            return None
        self._inbox.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(file, self._inbox / digest))

    async def discard(self, worker: str, digest: str) -> None:
        self.discarded.append((worker, digest))
        (self._pods / worker / "staged" / digest).unlink(missing_ok=True)
        (self._inbox / digest).unlink(missing_ok=True)

    def sweep(self, wanted: Collection[str]) -> None:
        for pod in self._pods.glob("*/updates"):
            if pod.parent.name not in wanted:
                shutil.rmtree(pod)

    def path_for(self, worker: str, path: Path) -> str:
        target = self._pods / worker / "inputs" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(path, target))


async def _create(bus: Bus, plural: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Create a resource; repeat the request until a coordinator answers."""
    body = json.dumps({"kind": kind, "metadata": {"name": name}, "spec": spec}).encode()
    while True:
        try:
            result_of((await bus.request(REQUEST.at(resource=plural, verb="create"), body)).body)
            return
        except Refused:
            raise
        except HeliographError:
            await asyncio.sleep(1)


def test_a_federated_job_runs_on_workers_without_pipes_and_without_a_shared_directory(tmp_path: Path) -> None:
    launchers: dict[str, PodLauncher] = {}
    logged: list[str] = []

    def make(worlds: Worlds, agent: Process, directory: Path, offering: Offers) -> Launcher:
        node = agent.name.removeprefix("agent-")
        launchers[node] = PodLauncher(worlds, agent, directory / "inbox", tmp_path / node)
        return launchers[node]

    async def main(loop: VirtualLoop) -> dict[str, Any]:
        edges = [EdgeSpec(name) for name in EDGES]
        cluster = VirtualCluster(loop, edges, Echo(ELEMENTS), 1, say=lambda _, line: logged.append(line), launcher=make)
        await cluster.start()
        async with cluster.client() as bus:
            await _create(bus, "models", "Model", "echo", {})
            worker = {"trainScriptBootFile": SCRIPT}
            workers = [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES]
            job = {"aggregationWorker": {"model": {"name": "echo"}}, "trainingWorkers": workers, "rounds": ROUNDS}
            await _create(bus, "jobs", "FederatedTask", "job", job)
            status = await _followed(bus, launchers)
        await cluster.stop()
        return status

    status = run(main)
    assert status["phase"] == "Succeeded", (status, logged)
    assert [each["counted"] for each in status["rounds"]] == [len(EDGES)] * ROUNDS
    started = {node: [request.role for request, _ in each.launched] for node, each in launchers.items()}
    assert started == {CLOUD: ["aggregate"], "edge-1": ["train"], "edge-2": ["train", "train"]}
    assert any("evicted: no output" in line for line in logged)
    for edge in EDGES:  # each update's staged weights were fetched, then deleted
        assert len(launchers[edge].discarded) >= ROUNDS
        assert list((tmp_path / edge).glob("*/staged/*")) == []


async def _followed(bus: Bus, launchers: dict[str, PodLauncher]) -> dict[str, Any]:
    """Return the job's last status; evict a worker in the second round."""
    evicted = False
    async with bus.subscribe(STATUS.at(resource="jobs", name="job")) as documents:
        async for message in documents:
            status: dict[str, Any] = tree_of(message)["status"]
            if status["round"] == 2 and not evicted:
                evicted = True
                await launchers["edge-2"].launched[-1][1].evict()
            if status["phase"] not in ("Pending", "Running"):
                return status
    raise AssertionError
