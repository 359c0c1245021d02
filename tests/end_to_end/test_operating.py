"""The procedures of ``docs/operating.md``, each typed as it stands there."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest

from heliograph.client import AsyncClient
from heliograph.core.identity.credentials import UserCredentials
from tests.local.started import Started, started, typed
from tests.patience import HANGS

EDGE = "edge-1"
pytestmark = pytest.mark.long


async def _has(client: AsyncClient, name: str) -> None:
    assert name in {each["metadata"]["name"] for each in await client.models.list()}


async def test_another_authority_signs_after_an_overlap(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        (cloud.directory / "environment" / "coordinator.local.env").write_text("HELIOGRAPH_LOGIN_SECONDS=4\n")
        await cloud.start("coordinator")
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        trusted = node / "identity" / "ca.pem"
        first = trusted.read_text()
        async with (
            AsyncClient(str(cloud.operator), leader_timeout=HANGS) as client, cloud.edge(EDGE, node) as agent,
        ):  # fmt: skip
            assert (await cloud.init("--new-authority"))[0] == 0
            async with asyncio.timeout(HANGS):
                while trusted.read_text().count("BEGIN") != 2:
                    await asyncio.sleep(0.1)  # a file tells nobody
            (cloud.directory / "tls" / "authority-1.pem").unlink()
            code, said = await cloud.init()
            assert code == 0 and "certificates: renewed" in said, said
            broker = cloud.processes["broker"].process
            assert broker is not None
            broker.send_signal(1)  # systemctl reload
            async with asyncio.timeout(HANGS):
                while trusted.read_text().count("BEGIN") != 1:
                    await asyncio.sleep(0.1)  # by the old certificate still, or the new one: both are trusted
            assert trusted.read_text() != first and ssl.create_default_context(cafile=trusted)
            await cloud.online(client, EDGE)
            assert not any("not renewed" in line for line in agent.lines), agent.lines


async def test_a_backup_starts_elsewhere_and_edges_need_not_enrol_again(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        async with AsyncClient(str(cloud.operator)) as client:
            await client.models.create({"kind": "Model", "metadata": {"name": "kept"}})
        for name in ("cloud", "coordinator", "broker"):
            await cloud.stop(name)
        copy = tmp_path / "restored"
        shutil.copytree(cloud.directory, copy)
        cloud.directory.rename(tmp_path / "lost")
        restored = Started(copy, tmp_path, cloud.processes)
        assert (await restored.init())[0] == 0
        for name in ("broker", "coordinator", "cloud"):
            await restored.start(name)
        async with AsyncClient(str(restored.operator)) as client, restored.edge(EDGE, node):
            await restored.online(client, EDGE)
            await _has(client, "kept")


async def test_an_authority_that_was_stolen_is_made_anew_and_the_data_stay(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        async with AsyncClient(str(cloud.operator)) as client:
            await client.models.create({"kind": "Model", "metadata": {"name": "kept"}})
        stolen = shutil.copy(cloud.operator.with_name("login.creds"), tmp_path / "stolen.creds")
        for name in ("cloud", "coordinator", "broker"):
            await cloud.stop(name)
        shutil.rmtree(cloud.directory / "broker" / "identity")
        assert (await cloud.init("--document-key", "replace"))[0] == 0
        for name in ("broker", "coordinator", "cloud"):
            await cloud.start(name)
        url = f"tls://localhost:{_port(cloud)}?ca={(node / 'identity' / 'ca.pem')}&credentials={stolen}"
        code, said = await typed("get", "models", "--server", url, home=tmp_path)
        assert code != 0 and "cannot reach" in said, said
        async with AsyncClient(str(cloud.operator)) as client:
            await _has(client, "kept")
            await client.edges.delete(EDGE)
            await cloud.enrolled(EDGE, node)
            async with cloud.edge(EDGE, node):
                await cloud.online(client, EDGE)


def _port(cloud: Started) -> str:
    return cloud.operator.read_text().partition("localhost:")[2].partition('"')[0]


async def test_a_second_coordinator_takes_over(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        standby = await cloud.begin("standby")
        await standby.wait_for_line("coordinator stands by", HANGS)
        await cloud.stop("coordinator")
        await standby.wait_ready(HANGS)
        await cloud.enrolled(EDGE, node)  # it has the authority too
        async with AsyncClient(str(cloud.operator)) as client, cloud.edge(EDGE, node):
            await cloud.online(client, EDGE)
        await cloud.stop("standby")


async def test_an_edge_whose_key_was_stolen_gets_another_one(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        before = UserCredentials.read(node / "identity" / "login.creds").claims.subject
        async with AsyncClient(str(cloud.operator)) as client:
            async with cloud.edge(EDGE, node):
                await cloud.online(client, EDGE)
                code, said = await typed("edge", "revoke", EDGE, home=tmp_path, variables=cloud.as_operator)
                assert code == 0, said
            await cloud.enrolled(EDGE, node)
            async with cloud.edge(EDGE, node):
                await cloud.online(client, EDGE)
        assert UserCredentials.read(node / "identity" / "login.creds").claims.subject != before
