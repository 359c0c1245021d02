"""A cluster that other machines reach: agents, clients and MQTT programs, all by TLS alone."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract import topics
from heliograph.client import AsyncClient
from heliograph.core.private_files import write_private
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_tls import Listening
from heliograph.local.logins import write_user_files
from heliograph.local.nats_server import Broker, User
from tests.local.exposed import outer_address
from tests.patience import HANGS

DATA = Path(__file__).parent.parent / "data"
FAR = "far"
PLACES = pytest.mark.parametrize("place", ["127.0.0.1", "outer"])


def _listening(place: str, **more: Any) -> Listening:
    """Return a listener at every address, reached by loopback or by the address that other machines use."""
    address = place if place != "outer" else outer_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    return Listening("0.0.0.0", (address,), **more)


@asynccontextmanager
async def _agent_elsewhere(cluster: LocalCluster, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an edge's agent as on another machine: it has copies of its login and of ca.pem, and a broker of its own."""
    directory.mkdir()
    assert cluster.tls is not None
    ca, keys = directory / "ca.pem", directory / "coordinator-keys.pem"
    ca.write_text(cluster.tls.certificates.ca.read_text())
    login = directory / "login.creds"
    write_private(login, cluster.broker.login_file(f"agent-{FAR}").read_text())
    keys.write_text(cluster.coordinator_keys.read_text())
    node = Broker(directory / "broker", "node", (User("agent", "of-agent", "agent"), User("worker", "w", "worker")))
    await node.start()
    process = await World().spawn(
        [sys.executable, "-m", "heliograph.cli.main", "agent", "--name", FAR, "--state", str(directory / "state")],
        env={
            "HELIOGRAPH_CLOUD": with_credentials(cluster.broker.public_url(), login), "HELIOGRAPH_TLS_CA": str(ca),
            "HELIOGRAPH_COORDINATOR_KEYS": str(keys),
            "HELIOGRAPH_NODE": node.url("agent", "mqtt"), "HELIOGRAPH_WORKER_NODE": node.url("worker", "mqtt"),
        },
        cwd=str(directory),
    )  # fmt: skip
    try:
        yield process  # type: ignore[misc]
    finally:
        process.terminate()
        await process.wait()
        await node.kill()


@PLACES
async def test_a_task_runs_and_an_agent_elsewhere_is_online(
    tmp_path: Path, regression: Any, task: Any, place: str
) -> None:
    datasets = {"edge-1": {"data": regression("one", 50, 1)}}
    cluster = LocalCluster(
        tmp_path / "cluster", ["edge-1"], datasets=datasets, code=(DATA / "code",), guests=[FAR],
        listening=_listening(place),
    )  # fmt: skip
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        assert cluster.server.startswith("tls://") and "credentials=" in cluster.server
        async with _agent_elsewhere(cluster, tmp_path / "elsewhere"), asyncio.timeout(HANGS):
            async with client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
                while not any(each["status"].get("online") for each in await client.edges.list()
                              if each["metadata"]["name"] == FAR):  # fmt: skip
                    await anext(changes)
            await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
            await client.jobs.create(task("train", ["edge-1"]))
            document: dict[str, Any] = {}
            async for document in client.jobs.watch("train"):  # noqa: B007 the last one counts
                pass
            assert document["status"]["phase"] == "Succeeded", document["status"]


@PLACES
@pytest.mark.parametrize("client_certificates", [False, True])
async def test_a_users_directory_serves_clients_wherever_it_lies(
    tmp_path: Path, place: str, client_certificates: bool, mosquitto: object
) -> None:
    cluster = LocalCluster(
        tmp_path / "cluster", ["edge-1"], logins={"alice": "a" * 32}, mosquitto=True,
        listening=_listening(place, client_certificates=client_certificates),
    )  # fmt: skip
    async with cluster:
        assert cluster.tls is not None
        for door in (None, cluster.mosquitto):
            home = tmp_path / ("embedded" if door is None else "mosquitto")
            own = write_user_files(home, cluster.broker, ["alice"], door, files_of=cluster.tls.files_of)["alice"]
            said = await _mosquitto_sub(own)
            assert json.loads(said.partition(" ")[2])["data"]["metadata"]["name"] == "edge-1"
        moved = tmp_path / "carried"
        own.rename(moved)
        async with AsyncClient(str(moved / "cluster.json"), timeout=HANGS) as client:
            assert "edge-1" in {each["metadata"]["name"] for each in await client.edges.list()}


async def _mosquitto_sub(directory: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub", "-t", "heliograph/status/edges/edge-1", "-v", "-C", "1", "-W", "60",
        env={"XDG_CONFIG_HOME": str(directory), "PATH": "/usr/bin:/bin"}, stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode()


async def test_renewed_certificates_reach_the_users_files_and_nobody_is_cut_off(tmp_path: Path) -> None:
    renewed = asyncio.Event()
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], listening=_listening("127.0.0.1"), renewed=renewed.set)
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        assert cluster.tls is not None
        certificates = cluster.tls.certificates
        lost: list[bool] = []
        client.bus.link.listen(lost.append)
        before = certificates.server.read_text()
        certificates.add_authority()
        (certificates.directory / "authority-1.pem").unlink()
        await cluster.tls.renew(cluster.reload_certificates)
        assert renewed.is_set()
        assert certificates.server.read_text() != before
        async with AsyncClient(cluster.server, timeout=HANGS) as another:
            assert await another.edges.list()
        assert await client.edges.list()
        assert lost == [True]
