"""Messages that once ended the coordinator or an agent: each is refused with its reason, and everything goes on, also
after a restart that finds the retained ones again."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.patience import HANGS

MESSAGES = json.loads((Path(__file__).parents[1] / "data" / "hostile" / "messages.json").read_text())
ON_NATS, ON_MOSQUITTO, GUEST = "edge-1", "edge-2", "edge-3"


def _messages(where: str, edge: str = "") -> Iterator[tuple[str, bytes, bool]]:
    """Yield topic, body and whether it is retained of each message of a place."""
    for each in MESSAGES:
        if each["where"] == where:
            yield each["topic"].replace("EDGE", edge), base64.b64decode(each["body"]), each["retain"]


@asynccontextmanager
async def _connected(url: str, name: str, inbox: str = "") -> AsyncIterator[Bus]:
    async with connect(url, name=name, inbox=inbox) as bus:
        await bus.link.wait_up(HANGS)
        yield bus


@pytest.mark.long
async def test_no_message_ends_a_process_and_everything_goes_on_after_a_restart(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Any]]
) -> None:
    node, door = await mosquitto(), await mosquitto()
    async with LocalCluster(
        tmp_path / "cluster", [ON_NATS, ON_MOSQUITTO], edge_brokers={ON_MOSQUITTO: node.url()}, guests=[GUEST],
        doors=(door.url(),),
    ) as cluster:  # fmt: skip
        nats_node = cluster.nodes[ON_NATS].broker
        assert nats_node is not None
        nodes = {ON_NATS: nats_node.url(scheme="mqtt"), ON_MOSQUITTO: node.url()}
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            for url in (cluster.door, door.url()):
                await _play_at_door(url)
            for edge, url in nodes.items():
                await _play_on_node(client, edge, url)
            await _play_reports(cluster, client)
            _check_alive(cluster)

            # the retained messages meet new agents, the stored ones a new coordinator
            for name in (COORDINATOR, *nodes):
                await cluster.kill(name)
            await cluster.start_coordinator()
            for edge in nodes:
                await cluster.start_agent(edge)
            await cluster.wait_ready(HANGS)
            for edge, url in nodes.items():
                await _play_on_node(client, edge, url)
            await _play_reports(cluster, client)
            for url in (cluster.door, door.url()):
                await _play_at_door(url)
            _check_alive(cluster)
            refused = [each["status"].get("refusedEvents", 0) for each in await client.edges.list()
                       if each["metadata"]["name"] in nodes]  # fmt: skip
            assert all(refused), refused
            assert [each["metadata"]["name"] for each in await client.algorithms.list()]


@pytest.mark.long
async def test_an_unreadable_resource_is_in_quarantine_and_the_coordinator_leads(tmp_path: Path) -> None:
    bad = {
        "models.deep": b'{"kind":"Model","metadata":' + b"[" * 3000,
        "models.huge": b'{"kind":"Model","metadata":{"name":"huge","generation":1%s}}' % (b"0" * 30),
        "models.text": rb'{"kind":"Model","metadata":{"name":"text"},"spec":{"description":"\ud83d"}}',
        "jobs.other": b'{"kind":"Model","metadata":{"name":"another"}}',
        "services.empty": b"",
        "edges.edge-1": b'{"kind":"Edge","metadata":{"name":"edge-1"},"status":{"online":"perhaps"}}',
    }
    async with LocalCluster(tmp_path / "cluster", ["edge-1"]) as cluster:
        await cluster.kill(COORDINATOR)
        async with _connected(cluster.broker.url("coordinator"), "damage") as bus:
            bucket = await bus.kv(RESOURCES)
            for key, value in bad.items():
                await bucket.put(key, value)
        await cluster.start_coordinator()
        await cluster.wait_ready(HANGS)
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            found = {each["spec"]["key"]: each for each in await client.resources("quarantines").list()}
            assert {*bad} - {*found} <= {"edges.edge-1"}  # the edge's report makes its resource anew
            assert "at most 64 bits" not in found["models.text"]["spec"]["reason"]
            assert "64 bits" in found["models.huge"]["spec"]["reason"]
            shown = await _heliograph("get", "quarantine", "--server", cluster.server)
            assert "models.huge" in shown and "64 bits" in shown
            name = found["models.huge"]["metadata"]["name"]
            model = {"kind": "Model", "metadata": {"name": "huge"}}
            refusal = await _refusal(client.models.create(model))
            assert f"heliograph delete quarantine/{name}" in refusal
            await client.resources("quarantines").delete(name)
            await client.models.create(model)
            async with client.bus.subscribe(topics.STATUS.at(resource="edges", name="edge-1")) as changes:
                async with asyncio.timeout(HANGS):
                    while not any(each["status"].get("online") for each in await client.edges.list()):
                        await anext(changes)
        _check_alive(cluster)


async def _heliograph(*words: str) -> str:
    """Return the output of a command."""
    argv = (sys.executable, "-m", "heliograph.cli.main", *words)
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def _refusal(call: Awaitable[Any]) -> str:
    try:
        await call
    except Exception as error:
        return str(error)
    raise AssertionError("accepted")


async def _play_at_door(url: str) -> None:
    """Publish the requests; each with a reply address gets a refusal."""
    login = ConnectionUrl.parse(url).credentials.name or "foreign"  # a reply reaches its caller alone
    async with _connected(url, "foreign") as bus:
        async with bus.subscribe(f"reply/{login}/+") as replies:
            for topic, named, _ in _messages("door"):
                body = named.replace(b"reply/foreign/", f"reply/{login}/".encode())
                await bus.publish(topic, body)
                if b"reply_to" in body:
                    async with asyncio.timeout(HANGS):
                        reply = json.loads((await anext(replies)).body)
                    assert not reply["ok"], (topic, body, reply)
                    assert reply["error"]["code"] != "defect", reply


async def _play_on_node(client: AsyncClient, edge: str, url: str) -> None:
    """Publish what devices may say; a good event behind it reaches the cloud."""
    async with client.bus.subscribe(topics.TELEMETRY.at(edge=edge, device="good")) as arrived:
        async with _connected(url, "devices") as bus:
            for topic, body, retain in _messages("node", edge):
                await bus.publish(topic, body, retain=retain)
            await bus.publish(topics.TELEMETRY.at(edge=edge, device="good"), b'{"n":1}')
            async with asyncio.timeout(HANGS):
                await anext(arrived)


async def _play_reports(cluster: LocalCluster, client: AsyncClient) -> None:
    """Publish an agent's reports; a good one behind them is shown."""
    good = {"edge": GUEST, "observed": {"epoch": 0, "n": 0}, "version": "0.2.0"}
    event = {"specversion": "1.0", "id": "1", "source": f"{GUEST}/agent/1", "type": topics.REPORT.type, "data": good}
    login = f"agent-{GUEST}"
    async with (
        client.bus.subscribe(topics.STATUS.at(resource="edges", name=GUEST)) as changes,
        _connected(cluster.broker.url(login), login, inbox_of(GUEST)) as bus,
    ):
        for topic, body, _ in _messages("edge", GUEST):
            await bus.publish(topic, body)
        before = cluster.world.new_id()
        named = event | {"data": good | {"version": before}}
        await bus.publish(topics.REPORT.at(edge=GUEST), json.dumps(named).encode())
        async with asyncio.timeout(HANGS):
            while not any(each["status"].get("version") == before for each in await client.edges.list()):
                await anext(changes)


def _check_alive(cluster: LocalCluster) -> None:
    for name in (COORDINATOR, *cluster.nodes):
        assert cluster.exit_code(name) is None, name
    children = [node.child for node in cluster.nodes.values()]
    for child in filter(None, children):
        assert not [line for line in child.lines if "Traceback" in line or "by a defect" in line], child.lines
