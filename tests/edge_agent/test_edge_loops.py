"""Incremental learning by a node alone: with the link cut it labels, trains, evaluates and deploys, is killed, and goes
on; what it tells the cloud has no sample and no weights in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.topics import CANDIDATE
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.edge_agent.learning_node import CODE, EDGE, NAME, create_loop, device_and_labeller
from tests.patience import HANGS


async def _answered_by_another(answers: asyncio.Queue[dict[str, Any]], *known: str) -> str:
    """Return the version that answers, once it is none of these twenty times in a row."""
    row = 0
    async with asyncio.timeout(HANGS):
        while True:
            model = (await answers.get()).get("model", "")
            row = row + 1 if model and model not in known else 0
            if row >= 20:
                return str(model)


@pytest.mark.long
async def test_a_node_learns_alone_is_killed_and_goes_on(tmp_path: Path) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    cluster = LocalCluster(tmp_path, [EDGE], code=(CODE,), relayed=(EDGE,))
    async with cluster, AsyncClient(cluster.server, leader_timeout=60) as client, device_and_labeller(cluster, answers):
        async with client.bus.subscribe(CANDIDATE.filter()) as told:
            first = await create_loop(client)
            await cluster.wait_for_line(EDGE, "serves points")
            relay = cluster.nodes[EDGE].relay
            assert relay is not None
            relay.cut()
            await cluster.wait_for_line(EDGE, "round 1 with")
            await cluster.kill(EDGE)  # its candidate may be under way
            await cluster.start_agent(EDGE)
            second = await _answered_by_another(answers, first)
            await cluster.wait_for_line(EDGE, "round 2 with")
            third = await _answered_by_another(answers, first, second)
            relay.restore()
            async with asyncio.timeout(HANGS):
                async for job in client.incremental_jobs.watch(NAME):
                    there = job["status"]["edges"].get(EDGE, {})
                    if there.get("deployed") and there.get("metric"):
                        break
                candidate = await anext(told)
        assert there["metric"] > 0.9 and third != second
        ended = there["last"]["models"][NAME]
        assert ended["decision"] in ("deployed", "rolled-back", "undecided", "refused") and ended["digest"]
        assert b"inline" not in candidate.body, "the weights stay on the node"
        assert (await client.models.versions(NAME))["deployed"] == 0, "the cloud has no version of the edge's own"
