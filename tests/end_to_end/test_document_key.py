"""The key that nodes obey is changed: with an overlap, and at once after it was stolen; nobody else changes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.enrolment_requests import trust_tag
from heliograph.bus.contract.topics import STATUS
from heliograph.bus.nats.auth_callout import AuthCallout, CalloutKeys
from heliograph.bus.nats.authority import CALLOUT_KEYS
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.ed25519_signer import Ed25519Signer, public_keys
from heliograph.core.errors import Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.enrolment import Enrolment, renew
from heliograph.local.cluster import LocalCluster
from tests.local.started import Started, started
from tests.patience import HANGS

EDGE = "edge-1"


async def _obeys(client: AsyncClient, dataset: str) -> None:
    """Want something of the edge, and wait until it does so."""
    await client.datasets.create({"kind": "Dataset", "metadata": {"name": dataset},
                                  "spec": {"nodeName": EDGE, "url": "rows.csv"}})  # fmt: skip
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.filter(resource="edges")) as changes:
        while dataset not in (await client.edges.get(EDGE))["status"]["datasets"]:
            await anext(changes)


def _keys(file: Path) -> frozenset[bytes]:
    return public_keys(file)


async def _told(file: Path, wanted: frozenset[bytes]) -> None:
    async with asyncio.timeout(HANGS):
        while _keys(file) != wanted:
            await asyncio.sleep(0.1)  # a file tells nobody


def _renewing_after(cloud: Started, seconds: int) -> None:
    own = cloud.directory / "environment" / "coordinator.local.env"
    own.write_text(f"HELIOGRAPH_LOGIN_SECONDS={seconds}\n")


@pytest.mark.long
async def test_the_next_key_signs_once_each_node_knows_it(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        _renewing_after(cloud, 4)
        await cloud.start("coordinator")
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        pinned, told = node / "identity" / "cloud-keys.pem", cloud.directory / "coordinator-keys.pem"
        first = _keys(pinned)
        async with (
            AsyncClient(str(cloud.operator), leader_timeout=HANGS) as client, cloud.edge(EDGE, node) as agent,
        ):  # fmt: skip
            await _obeys(client, "before")
            code, said = await cloud.init("--document-key", "next")
            assert code == 0 and "After a day" in said, said
            both = _keys(told)
            assert first < both and len(both) == 2
            await _told(pinned, both)  # while the coordinator runs
            assert (await cloud.init("--document-key", "sign"))[0] == 0
            await cloud.start("coordinator")
            await _obeys(client, "after")
            await _told(pinned, both - first)
            assert not any("refused" in line for line in agent.lines), agent.lines
        assert (await cloud.init("--document-key", "sign"))[0] != 0  # there is no next one


@pytest.mark.long
async def test_an_edge_obeys_the_key_that_replaces_a_stolen_one_once_it_was_told(tmp_path: Path) -> None:
    async with started(tmp_path) as cloud:
        node = tmp_path / "node"
        await cloud.enrolled(EDGE, node)
        pinned = node / "identity" / "cloud-keys.pem"
        stolen = _keys(pinned)
        async with (
            AsyncClient(str(cloud.operator), leader_timeout=HANGS) as client, cloud.edge(EDGE, node) as agent,
        ):  # fmt: skip
            await _obeys(client, "before")
            assert (await cloud.init("--document-key", "replace"))[0] == 0
            await cloud.start("coordinator")
            await agent.wait_for_line("desired document refused, the last one holds", HANGS)
            await _obeys(client, "after")  # it renewed its login, since it did not know the key
            assert _keys(pinned) == _keys(cloud.directory / "coordinator-keys.pem") and not _keys(pinned) & stolen


async def test_who_can_answer_requests_makes_no_node_obey_another_key(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "c", [EDGE]) as cluster:
        identity = cluster.nodes[EDGE].identity
        enrolled = Enrolment.read(identity)
        assert enrolled is not None
        await cluster.kill("coordinator")
        mine = Ed25519Signer.made(World()).public_key
        login = UserCredentials.read(identity / "login.creds")
        before = {file.name: file.read_text() for file in identity.iterdir()}
        with pytest.raises(Refused, match="the authorities and keys that the login names"):
            await _renewed_by_thief(cluster, enrolled.cloud, login.token, mine)
        with pytest.raises(Refused, match="the answer to invitations/renew"):
            await _renewed_by_thief(cluster, enrolled.cloud, "no token at all", mine)
        # the truth does no harm
        await _renewed_by_thief(cluster, enrolled.cloud, login.token, before["cloud-keys.pem"])
        assert trust_tag("", mine) not in login.claims.tags
        assert {file.name: file.read_text() for file in identity.iterdir()} == before


async def _renewed_by_thief(cluster: LocalCluster, url: str, token: str, keys: str) -> None:
    """Renew a login while somebody with the coordinator's login answers."""
    answer = {"ok": True, "result": {"name": EDGE, "token": token, "expires": 1 << 33, "cloud_keys": keys}}
    async with connect(cluster.broker.url("coordinator"), name="thief") as bus:
        assert isinstance(bus, NatsBus)
        await bus.link.wait_up(HANGS)
        client = bus.connection.client
        asked = await client.subscribe(bus.subjects.subject("request/invitations/renew"))
        await client.flush()

        async def respond() -> None:
            await client.publish((await asked.next_msg(HANGS)).reply, json.dumps(answer).encode())

        keys_of_callout = CalloutKeys.read(cluster.broker.identity / CALLOUT_KEYS)
        callout = AuthCallout(cluster.broker.url("coordinator"), keys_of_callout, World())
        others = [asyncio.create_task(each) for each in (respond(), callout.run())]
        try:
            await callout.listening.wait()
            await renew(url, World())
        finally:
            await cancel_and_wait(*others)
