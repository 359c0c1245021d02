"""The cloud's workers of a cluster: each launch logs in by its own file, and asks for nothing that is refused."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

from heliograph.client import AsyncClient
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.names import CLOUD
from heliograph.edge_agent.launcher import LOGIN_FILE
from heliograph.local.cluster import LocalCluster
from tests.bus.roles import violations
from tests.end_to_end.cloud_worker import worker_of
from tests.patience import HANGS

DATA = Path(__file__).parent.parent / "data"


async def test_each_launch_of_a_cloud_worker_has_a_login_that_ends_with_it(
    tmp_path: Path, regression: Any, task: Any
) -> None:
    datasets = {f"edge-{n}": {"data": regression(f"of-{n}", 50, n)} for n in (1, 2)}
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], datasets=datasets, code=(DATA / "code",))
    workers = tmp_path / "cluster" / CLOUD / "state" / "workers"
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(HANGS):
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await client.jobs.create(task("train", ["edge-1", "edge-2"], rounds=40))
        pid = await worker_of(cluster, client, "aggregation.worker")
        (file,) = workers.glob(f"*/{LOGIN_FILE}")
        login = UserCredentials.read(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert login.claims.name == f"worker-{file.parent.name}"
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert f"?credentials={file}".encode() in environment
        assert login.token.encode() not in environment + Path(f"/proc/{pid}/cmdline").read_bytes()
        document: dict[str, Any] = {}
        async for document in client.jobs.watch("train"):  # noqa: B007 the last one counts
            pass
        assert document["status"]["phase"] == "Succeeded", document["status"]
        while file.exists():  # the worker ends after its job
            await asyncio.sleep(0.02)
        assert [path.name for path in cluster.broker.identity.iterdir() if "worker" in path.name] == [
            "worker-issuer.json"
        ]
    assert violations(cluster.broker) == []
