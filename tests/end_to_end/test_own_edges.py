"""The edges of a local cluster are enrolled ones: their logins expire and are renewed, and can be taken away."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from heliograph.bus.contract.topics import STATUS
from heliograph.bus.nats.authority import Authority
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.world import World
from heliograph.enrolment import Enrolment, enroll
from heliograph.invitations import invite
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EDGE = "edge-1"
SECONDS = 4


async def _revoked(client: AsyncClient) -> None:
    """Revoke the edge; a coordinator that leads anew has not read at once who has enrolled."""
    async with asyncio.timeout(HANGS):
        while True:
            try:
                await client.edges.ask("revoke", EDGE)
            except Refused as refused:
                if "none has enrolled" not in str(refused):
                    raise
                await asyncio.sleep(0.2)
            else:
                return


async def test_an_edge_of_a_cluster_has_a_login_of_its_own_that_is_renewed_and_revoked(tmp_path: Path) -> None:
    directory, world = tmp_path / "c", World()
    identity = directory / EDGE / "state" / "identity"
    async with LocalCluster(directory, [EDGE], login_seconds=SECONDS) as cluster:
        assert Enrolment.read(identity) == Enrolment(EDGE, cluster.agent_url(EDGE))
        assert {file.name for file in identity.iterdir()} == {"login.creds", "cloud.json", "cloud-keys.pem"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in identity.iterdir()} == {0o600}
        first = UserCredentials.read(identity / "login.creds")
        async with AsyncClient(cluster.server) as client:
            with pytest.raises(Refused) as refused:
                await enroll(await invite(client, EDGE), EDGE, tmp_path / "stranger", world)
            assert refused.value.code == "exists"
    async with asyncio.timeout(HANGS):
        while world.now() <= UserCredentials.read(identity / "login.creds").claims.expires + 1:
            await asyncio.sleep(0.2)  # stopped for longer than the login lasts
    async with (
        LocalCluster(directory, [EDGE], login_seconds=SECONDS) as cluster,
        AsyncClient(cluster.server, leader_timeout=HANGS) as client,
    ):
        again = UserCredentials.read(identity / "login.creds")
        assert again.claims.subject == first.claims.subject and again.claims.expires > first.claims.expires
        async with asyncio.timeout(HANGS):
            while UserCredentials.read(identity / "login.creds").claims.expires <= again.claims.expires:
                await asyncio.sleep(0.2)  # its agent renews it
        await cluster.broker.kill()
        await cluster.broker.start()  # what it was told of revocation and enrolment is in the authority
        await client.bus.link.wait_up(HANGS)
        await _revoked(client)
        await _offline(client)
    async with LocalCluster(directory, [EDGE]) as cluster:  # whoever starts it names its edges
        other = UserCredentials.read(identity / "login.creds")
        assert other.claims.subject != first.claims.subject
        assert first.claims.subject in Authority(cluster.broker.identity, world).edges.revoked(EDGE)


async def test_an_edge_without_its_login_gets_another_key_and_a_foreign_one_keeps_its_name(tmp_path: Path) -> None:
    directory, world = tmp_path / "c", World()
    async with LocalCluster(directory, [EDGE]) as cluster, AsyncClient(cluster.server) as client:
        await enroll(await invite(client, "edge-2"), "edge-2", tmp_path / "elsewhere", world)
        lost = UserCredentials.read(directory / EDGE / "state" / "identity" / "login.creds").claims.subject
    (directory / EDGE / "state" / "identity" / "login.creds").unlink()
    async with LocalCluster(directory, [EDGE]) as cluster:
        assert lost in Authority(cluster.broker.identity, world).edges.revoked(EDGE)
    with pytest.raises(Refused, match="a name that no other node has enrolled by, got edge-2"):
        async with LocalCluster(directory, [EDGE, "edge-2"]):
            pass


async def _offline(client: AsyncClient) -> None:
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.at(resource="edges", name=EDGE)) as changes:
        while any(each["metadata"]["name"] == EDGE and each["status"]["online"] for each in await client.edges.list()):
            await anext(changes)
