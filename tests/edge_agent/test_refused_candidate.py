"""An agent that does not trust a candidate starts its worker with the champion, and tells it why it tries no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics, weights_file
from heliograph.bus.contract.model_statement import signed
from heliograph.bus.contract.payloads import CandidateModel, Desired, Generation, InferTask, ScriptSpec, WorkerState
from heliograph.bus.contract.resources import ModelVersion, WeightsRef
from heliograph.bus.port import Port
from heliograph.core.signing import Signer
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.agent import Agent
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.edge_agent.launcher import LaunchRequest, RunningWorker
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.local.nats_server import Broker, User
from tests.edge_agent.supervised_node import Handle
from tests.patience import HANGS

EDGE, WORKER = "edge-1", "line-infer"


class PlayedWorkers(SharedDirectory):
    """A launcher whose workers are played by the test."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.launched: asyncio.Queue[LaunchRequest] = asyncio.Queue()

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        self.launched.put_nowait(request)
        return Handle(request, 0.0, stubborn=False, silent=True)

    async def offers(self) -> bytes:
        return b"{}"


def _inline(value: float) -> WeightsRef:
    content = weights_file.dumps({"w": np.full(2, value, np.float32)})
    return WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)


async def test_a_worker_starts_with_the_champion_and_is_told_of_a_refused_candidate(
    broker: Callable[..., Awaitable[Broker]], tmp_path: Path
) -> None:
    started, world, code = await broker(), World(), tmp_path / "code"
    of_node = await broker("node", (User("agent", "of-agent", "agent"), User("worker", "of-worker", "worker")))
    code.mkdir()
    (code / "serve.py").write_text("")
    signer, other = Signer.made(world), Signer.made(world)
    champion, candidate = _inline(1.0), _inline(2.0)

    def by(key: Signer, number: int, weights: WeightsRef) -> Any:
        return signed("m", ModelVersion(version=number, weights=weights), None, key).signature

    task = InferTask(
        worker=WORKER, job="line", job_uid="u", generation=1, model=champion, script=ScriptSpec(boot_file="serve.py"),
        signature=by(signer, 1, champion),
        candidate=CandidateModel(model=candidate, number=2, signature=by(other, 2, candidate)),
    )  # fmt: skip
    url, node_url = started.url(f"agent-{EDGE}"), of_node.url("agent", "mqtt")
    config = AgentConfig(name=EDGE, cloud=url, node=node_url, worker_node=node_url, state=tmp_path / "state",
                         code=(CodeRoot.parse(str(code)),), model_keys={signer.key_id: signer.public_key})  # fmt: skip
    launcher = PlayedWorkers(tmp_path / "workers")
    async with connect(started.url("coordinator"), name="coordinator") as bus:
        await bus.link.wait_up(HANGS)
        await bus.prepare()
        cloud = Port(bus, world, "cloud/coordinator/x")
        desired = Desired(edge=EDGE, generation=Generation(epoch=1, n=1), tasks=[task])
        await cloud.publish(topics.TASK, desired, edge=EDGE)
        running = asyncio.ensure_future(Agent(config, launcher, world, lambda line: None).run())
        try:
            async with asyncio.timeout(HANGS):
                request = await launcher.launched.get()
                async with connect(of_node.url("worker", "mqtt"), name="worker") as node:
                    await node.link.wait_up(HANGS)
                    port = Port(node, world, f"{EDGE}/worker/{WORKER}")
                    async with port.subscribe(topics.ASSIGNMENT, lambda error: None, worker=WORKER) as assigned:
                        hello = WorkerState(worker=WORKER, state="hello")
                        await port.publish(topics.WORKER, hello, key=request.secret, worker=WORKER)
                        given = (await anext(aiter(assigned))).payload.task
        finally:
            await cancel_and_wait(running)
    assert isinstance(given, InferTask) and given.candidate is not None
    assert given.model is not None and given.model.digest == champion.digest
    assert given.candidate.refused.startswith(f"model {candidate.digest[:12]}: field signatures: expected a signature")
