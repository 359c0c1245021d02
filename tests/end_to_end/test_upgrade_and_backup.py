"""A cloud with three servers is restarted part by part while rounds go on, copied, and started elsewhere."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from heliograph.client import AsyncClient
from tests.end_to_end.test_audit import audit
from tests.end_to_end.test_broker_cluster import SLOW, Rounds
from tests.end_to_end.test_init_cluster import running
from tests.local.started import Started, typed
from tests.patience import HANGS

EDGE = "edge-1"
ROUNDS = 2000
SERVERS = ("broker", "broker-2", "broker-3")
STEADY = 5
"""Rounds that pass between two restarts."""


async def current(cloud: Started) -> None:
    """Wait until each server has what the others have, as the operator does between two restarts."""
    code, said = await typed("servers", str(cloud.directory), "--wait", str(HANGS), home=cloud.home)
    assert code == 0 and said.count("current") == len(SERVERS), said


async def upgraded(cloud: Started, rounds: Rounds) -> None:
    """Restart all parts one after the other, while rounds go on."""
    await current(cloud)
    for server in SERVERS:
        await cloud.stop(server)
        code, said = await typed("servers", str(cloud.directory), home=cloud.home)
        assert code != 0 and "2 of 3 servers are current" in said and "it does not answer" in said, said
        await cloud.begin(server)
        await current(cloud)
        await rounds.pass_by(STEADY)
    for coordinator in ("coordinator", "standby"):
        await cloud.stop(coordinator)  # the other one leads
        await rounds.pass_by(STEADY)
        await cloud.begin(coordinator)
    await cloud.start("cloud")
    await rounds.pass_by(STEADY)


@pytest.mark.long
async def test_rounds_go_on_through_an_upgrade_and_from_a_backup(tmp_path: Path) -> None:
    code, node, backup = tmp_path / "code", tmp_path / "node", tmp_path / "backup"
    code.mkdir()
    (code / "slow.py").write_text(SLOW)
    async with running(tmp_path, machines=False) as (cloud, _):
        await (await cloud.begin("standby")).wait_for_line("coordinator stands by", HANGS)
        await cloud.enrolled(EDGE, node)
        async with (
            AsyncClient(str(cloud.operator), timeout=HANGS, leader_timeout=HANGS) as client,
            cloud.edge(EDGE, node, code),
        ):
            await cloud.online(client, EDGE)
            await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
            worker = {"name": EDGE, "nodeName": EDGE, "workerSpec": {"trainScriptBootFile": "slow.py"}}
            spec = {"aggregationWorker": {"model": {"name": "count"}}, "trainingWorkers": [worker], "rounds": ROUNDS}
            await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "slow"}, "spec": spec})
            rounds = Rounds(client)
            following = asyncio.create_task(rounds.follow())
            await rounds.pass_by(STEADY)
            await upgraded(cloud, rounds)
            following.cancel()
            at_copy = rounds.closed
            for name in ("standby", "cloud", "coordinator", *SERVERS):
                await cloud.stop(name)
            shutil.copytree(cloud.directory, backup)
    cloud.directory.rename(tmp_path / "lost")

    restored = Started(backup, tmp_path, {})
    assert (await restored.init())[0] == 0
    try:
        for server in SERVERS:
            await restored.begin(server)
        for name in ("coordinator", "cloud"):
            await restored.start(name)
        async with (
            AsyncClient(str(restored.operator), timeout=HANGS, leader_timeout=HANGS) as client,
            restored.edge(EDGE, node, code),  # it has not enrolled again
        ):
            await restored.online(client, EDGE)
            assert {each["metadata"]["name"] for each in await client.models.list()} == {"count"}
            rounds = Rounds(client)
            following = asyncio.create_task(rounds.follow())
            await rounds.pass_by(1)
            assert rounds.closed >= at_copy
            await rounds.pass_by(STEADY)
            following.cancel()
            keys = str(restored.directory / "coordinator-keys.pem")
            exit_code, lines, error = await audit(str(restored.operator), "verify", "--coordinator-keys", keys)
            assert exit_code == 0, (lines, error)
    finally:
        for name in ("cloud", "coordinator", *SERVERS):
            await restored.stop(name)
