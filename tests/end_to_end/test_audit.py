"""The audit of a real cluster: read and verified by the operator, unbroken by a new leader, shortened by nobody."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.topics import AUDIT
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

MODEL = {"kind": "Model", "metadata": {"name": "line"}}


async def audit(server: str, *words: str) -> tuple[int, list[str], str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", "audit", *words, env={**os.environ, "HELIOGRAPH_SERVER": server},
        stdout=-1, stderr=-1,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), error.decode()


async def test_the_audit_is_one_chain_that_nobody_shortens(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "cluster", ["edge-1"], logins={"alice": "a" * 32})
    async with cluster, asyncio.timeout(HANGS):
        operator, keys = cluster.server, str(cluster.coordinator_keys)
        async with AsyncClient(cluster.broker.url("alice"), timeout=HANGS) as client:
            await client.models.create(MODEL)
            await client.models.get("line")
            with pytest.raises(Refused):
                await client.models.create({**MODEL, "metadata": {"name": "line", "labels": {"a": "b"}}})

        code, lines, _ = await audit(operator, "--who", "alice", "-o", "json")
        assert code == 0
        told = [(each["what"], each["name"], each["decision"], each["code"]) for each in map(json.loads, lines)]
        assert told == [("models/create", "line", "accepted", ""), ("models/create", "line", "refused", "exists")]
        code, lines, _ = await audit(operator, "--refused")
        assert [line.split()[2:] for line in lines] == [["alice", "models/create", "line", "refused:", "exists"]]
        code, lines, _ = await audit(operator, "verify", "--coordinator-keys", keys)
        assert code == 0
        head = lines[0].rpartition("head ")[2]

        await cluster.kill(COORDINATOR)
        await cluster.start_coordinator()
        await cluster.wait_for_line(COORDINATOR, "coordinator is ready", HANGS)
        async with AsyncClient(operator, timeout=HANGS) as client:
            await client.models.delete("line")
        code, lines, _ = await audit(operator, "-o", "json")
        verbs = [json.loads(line)["what"] for line in lines]
        assert verbs == ["lead", "models/create", "models/create", "lead", "models/delete"]
        code, lines, error = await audit(operator, "verify", "--coordinator-keys", keys, "--head", head)
        assert code == 0, error
        assert lines[0].startswith("records 1 to 5 hold, each signed by a coordinator; head 5:")

        world = World()
        async with connect(cluster.broker.url("coordinator"), world=world, name="thief") as bus:
            await bus.link.wait_up(HANGS)
            assert isinstance(bus, NatsBus)
            name = bus.subjects.stream_name("AUDIT")
            for call, body in ((f"PURGE.{name}", None), (f"MSG.DELETE.{name}", {"seq": 2})):
                answer = await bus.connection.ask(f"$JS.API.STREAM.{call}", body)
                assert "error" in answer, call
            config = await bus.connection.stream_config(name)
            weaker = {**(config or {}), "deny_purge": False, "deny_delete": False}
            assert "error" in await bus.connection.ask(f"$JS.API.STREAM.UPDATE.{name}", weaker)
            forged = AuditRecord(n=6, previous=head.partition(":")[2], epoch=1, who="bob", what="models/create",
                                 decision="accepted")  # fmt: skip
            await Port(bus, world, "cloud/coordinator/thief").publish(AUDIT, forged)
        code, lines, error = await audit(operator, "verify", "--coordinator-keys", keys)
        assert code == 1
        assert "wrong: record 5 is not the one that record 6 was written after" in lines
        assert any("record 6" in line and "expected a signature of a coordinator" in line for line in lines)
        assert "Traceback" not in error
        code, _, error = await audit(cluster.broker.url("alice"))
        assert code != 0
        assert "operator" in error
