"""A flood of requests over a real broker: another caller's are answered in their turn, and the coordinator leads on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.errors import NobodyAnswers, Refused
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLOOD = 2000
HUGE = 10_000


def _dataset(name: str, **annotations: str) -> dict[str, Any]:
    return {"kind": "Dataset", "metadata": {"name": name, "annotations": annotations}, "spec": {}}


def _job(name: str, workers: int) -> dict[str, Any]:
    listed = [{"name": f"worker-{number}", "nodeName": f"nowhere-{number}"} for number in range(workers)]
    spec = {"aggregationWorker": {"model": {"name": "none"}}, "trainingWorkers": listed}
    return {"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec}


MANY_FIELDS = json.dumps({"kind": "Dataset", "spec": {f"field-{number}": 0 for number in range(500)}}).encode()
HOSTILE: dict[str, tuple[str, bytes]] = {
    "list": ("edges.list", b"{}"),
    "get": ("models.get", b'{"name": "nothing"}'),
    "unknown-topic": ("unicorns.get", b"{}"),
    "no-document": ("datasets.create", b"\xff" * 2000),
    "many-fields": ("datasets.create", MANY_FIELDS),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_flood_of_one_caller_does_not_put_off_another_callers_request(cloud: Any, kind: str) -> None:
    """Both send on one connection, so that the honest request comes to the coordinator after all others. The flood's
    rate lets it handle half of them at once."""
    subject, body = HOSTILE[kind]
    answers = Counter[tuple[str, bool]]()
    honest, flood_goes_on = asyncio.Event(), asyncio.Event()

    async def received(message: Any) -> None:
        answer, caller = json.loads(message.data), message.subject.split(".")[1]
        refused = not answer["ok"] and answer["error"]["code"] == "too-many-requests"
        answers[caller, refused] += 1
        if caller == "honest":
            assert answer["ok"]
            honest.set()
        elif honest.is_set() and not refused:
            flood_goes_on.set()
        if refused:
            assert answer["error"]["retry_after"] > 0

    # a login that may read both callers' inboxes
    async with connect(cloud.cluster.broker.url("coordinator"), name="flood") as bus, asyncio.timeout(HANGS):
        await bus.link.wait_up(HANGS)
        assert isinstance(bus, NatsBus)
        client = bus.connection.client
        for name in ("flood", "honest"):
            await client.subscribe(f"_INBOX.{name}.>", cb=received)
        for number in range(FLOOD):
            await client.publish(f"heliograph.request.{subject}", body, reply=f"_INBOX.flood.{number}")
        await client.publish("heliograph.request.edges.list", b"{}", reply="_INBOX.honest.1")
        await honest.wait()
        await flood_goes_on.wait()  # requests that had come before the honest one
    assert answers["honest", False] == 1
    assert answers["flood", True] > 0


async def test_a_client_with_more_requests_than_its_queue_takes_gets_every_answer(cloud: Any) -> None:
    async with AsyncClient(cloud.cluster.server, timeout=HANGS) as client:
        async with asyncio.timeout(HANGS):
            found = await asyncio.gather(*(client.edges.get("edge-1") for _ in range(600)))
    assert {each["metadata"]["name"] for each in found} == {"edge-1"}


@pytest.mark.long
async def test_jobs_of_ten_thousand_workers_neither_stop_the_coordinator_nor_anothers_requests(cloud: Any) -> None:
    bus = cloud.client.bus
    state = await bus.kv("coordinator")
    before = await state.get("epoch")
    outcomes = Counter[str]()

    async def create(number: int) -> None:  # by another caller than the one that gets
        async with AsyncClient(cloud.cluster.broker.url("coordinator"), timeout=HANGS, leader_timeout=HANGS) as client:
            try:
                await client.jobs.create(_job(f"huge-{number}", HUGE))
                outcomes["ok"] += 1
            except Refused as error:
                outcomes[f"{error.code} {error.field}"] += 1

    async with asyncio.timeout(HANGS):
        creating = asyncio.gather(*(create(number) for number in range(10)))
        gets = 0
        while not creating.done():
            # on an overloaded machine the broker may cut any connection: the next request tells
            with contextlib.suppress(NobodyAnswers):
                assert (await cloud.client.edges.get("edge-1"))["metadata"]["name"] == "edge-1"
                gets += 1
        await creating
    assert gets > 0
    assert outcomes.total() == 10
    assert outcomes["ok"] < 10
    assert set(outcomes) <= {"ok", "quota workers", "quota workers-in-all"}
    assert await state.get("epoch") == before  # one coordinator has led, in one term
    for number in range(10):
        try:
            await cloud.client.jobs.delete(f"huge-{number}")
        except Refused as error:
            assert error.code == "not-found"


async def test_quotas_are_settings_and_hold_over_a_restart(tmp_path: Path) -> None:
    settings = "resources-in-all=3 workers-of-job=5 resource-bytes=20000"

    def program(name: str) -> list[str]:
        return ["env", f"HELIOGRAPH_QUOTAS={settings}", sys.executable, "-m", "heliograph.cli.main"]

    cluster = LocalCluster(tmp_path, [], program=program)
    await cluster.start_broker()
    try:
        await cluster.start_coordinator()
        await cluster.wait_ready()
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            made = await client.datasets.create(
                {"kind": "Dataset", "metadata": {"name": "one", "createdBy": "somebody-else"}, "spec": {}}
            )
            assert made["metadata"]["createdBy"] not in ("", "somebody-else")
            with pytest.raises(Refused, match="at most 20000 bytes of one resource"):
                await client.datasets.create(_dataset("fat", note=30_000 * "x"))
            await client.datasets.create(_dataset("two"))
            await client.datasets.create(_dataset("three"))
            with pytest.raises(Refused, match=r"at most 3 resources of all callers.* Delete resources"):
                await client.datasets.create(_dataset("four"))
            await client.datasets.update(_dataset("three", note="a change is no new resource"))
            await cluster.kill("coordinator")
            await cluster.start_coordinator("second")
            await cluster.wait_for_line("second", "is ready")
            with pytest.raises(Refused, match="resources-in-all"):
                await client.datasets.create(_dataset("four"))
            await client.datasets.delete("one")
            with pytest.raises(Refused, match="at most 5 workers in one document"):
                await client.jobs.create(_job("job", 6))
            await client.jobs.create(_job("job", 5))
    finally:
        await cluster.stop()
