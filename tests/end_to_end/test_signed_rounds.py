"""Whoever has the login of a launch, and not the job's key, closes no round."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract import close_record, topics
from heliograph.bus.contract.buckets import ROUNDS
from heliograph.bus.contract.launch_permissions import Launch
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Conflict, HeliographError
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

DATA = Path(__file__).parent.parent / "data"
ANSWER = [1.0, -2.0, 0.5]
ROUNDS_OF_JOB = 3


async def _forge(port: Port, uid: str, tried: list[int]) -> None:
    """Close each round of the job again and again, before its worker does, with a model of nobody's."""
    bucket = await port.bus.kv(ROUNDS)
    signers = (None, Ed25519Signer.made(port.world))
    while True:
        for round in range(ROUNDS_OF_JOB + 1):
            forged = Aggregation(job="train", job_uid=uid, round=round, counted={"edge-1": "0" * 64}, reason="complete")
            for signer in signers:
                with suppress(Conflict):
                    await bucket.put(close_record.key_of(uid, round), close_record.dump(forged, signer), 0)
                with suppress(HeliographError):
                    await port.publish(topics.AGGREGATION, forged, job="train", signer=signer)
                    tried.append(round)
        await asyncio.sleep(0.02)


async def test_a_stolen_login_of_a_worker_closes_no_round(tmp_path: Path, regression: Any, task: Any) -> None:
    datasets = {f"edge-{n}": {"data": regression(f"of-{n}", 50, n)} for n in (1, 2)}
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], datasets=datasets, code=(DATA / "code",))
    world = World()
    async with (
        cluster, AsyncClient(cluster.server, timeout=HANGS) as client,
        asyncio.timeout(HANGS), AsyncExitStack() as stack,
    ):  # fmt: skip
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        created = await client.jobs.create(task("train", ["edge-1", "edge-2"], rounds=ROUNDS_OF_JOB))
        launch = Launch.of("thief", "train", created["metadata"]["uid"], CLOUD)
        stolen, key = tmp_path / "stolen.creds", KeyPair("user", world.new_secret())
        issuer = WorkerIssuer.read(cluster.broker.worker_issuer)
        issuer.issue(launch, key, world.now(), int(world.now()) + 600).write(stolen)
        url = with_credentials(cluster.broker.url(), stolen)
        bus = await stack.enter_async_context(connect(url, world=world, name="thief", inbox=inbox_of(launch.login)))
        bus.makes_buckets = False
        await bus.link.wait_up(HANGS)
        tried: list[int] = []
        forging = asyncio.create_task(_forge(Port(bus, world, "cloud/thief/1"), created["metadata"]["uid"], tried))
        document: dict[str, Any] = {}
        async for document in client.jobs.watch("train"):  # noqa: B007 the last one counts
            pass
        forging.cancel()
        status = document["status"]
        assert len(tried) > 2 * ROUNDS_OF_JOB
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]] == [2] * ROUNDS_OF_JOB
        path = await client.download("line", tmp_path / "model.safetensors")
        with TensorFile(path) as file:
            np.testing.assert_allclose(file.numpy("w"), ANSWER, atol=0.02)
