"""Federated tasks over real processes and real brokers, from the first message to the model file."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import paho.mqtt.properties as properties
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes

from heliograph.blocking_client import Client
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

DATA = Path(__file__).parent.parent / "data"
SEED = DATA / "federated-task.seed.yaml"
ANSWER = [1.0, -2.0, 0.5]
MODEL = {"kind": "Model", "metadata": {"name": "line"}}


async def _ended(client: AsyncClient, name: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    async with asyncio.timeout(HANGS):
        async for document in client.jobs.watch(name):  # noqa: B007 the last one counts
            pass
    return document["status"]


async def _until(client: AsyncClient, resource: str, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Wait until the listed resources satisfy ``holds``; list them again after each status change."""
    async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource=resource)) as changes:
        while not holds(await client.resources(resource).list()):
            await anext(changes)


async def _heliograph(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", *words, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def _two_edges(tmp_path: Path, regression: Any, **more: Any) -> LocalCluster:
    datasets = {
        "edge-1": {"data": regression("one", 50, 1)},
        "edge-2": {"data": regression("two", 150, 2)},
        "cloud": {"held-out": regression("test", 40, 3)},
    }
    return LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], datasets=datasets, code=(DATA / "code",), **more)


async def test_a_task_trains_evaluates_and_leaves_its_model(tmp_path: Path, regression: Any, task: Any) -> None:
    async with _two_edges(tmp_path, regression) as cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        await client.models.create(MODEL)
        evaluation = {"dataset": {"name": "held-out"}}
        await client.jobs.create(task("train", ["edge-1", "edge-2"], evaluationWorker=evaluation))
        status = await _ended(client, "train")
        assert status["phase"] == "Succeeded", status
        assert [each["counted"] for each in status["rounds"]] == [2, 2, 2]
        assert status["rounds"][0]["numSamples"] == 200  # taken from the data sets' indexes
        assert status["evaluation"]["error"] < 1e-3
        path = await client.download("line", tmp_path / "model.safetensors")
        with TensorFile(path) as file:
            np.testing.assert_allclose(file.numpy("w"), ANSWER, atol=0.02)
        with Client(cluster.server) as blocking:  # a second task starts from the model's newest version
            blocking.jobs.create(task("again", ["edge-1", "edge-2"], rounds=1))
            *_, last = blocking.jobs.watch("again")
            assert last["status"]["phase"] == "Succeeded"
            versions = blocking.models.get("line")["status"]["versions"]
        assert [each["version"] for each in versions] == [1, 2]
        edges = {each["metadata"]["name"]: each for each in await client.edges.list()}
        assert all(edge["status"]["online"] for edge in edges.values())
        datasets = {each["metadata"]["name"]: each for each in await client.datasets.list()}
        assert datasets["data"]["status"]["edges"]["edge-2"]["samples"] == 150


async def test_the_founding_document_runs_once_all_its_resources_exist(tmp_path: Path, regression: Any) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text((DATA / "code" / "train.py").read_text())
    names = ["edge0", "edge1", "edge2"]
    datasets = {name: {"dataset0": regression(name, 30 + number, number)} for number, name in enumerate(names)}
    cluster = LocalCluster(tmp_path / "cluster", names, datasets=datasets, code=(f"/code={code}",))
    try:
        await cluster.start_broker()
        await cluster.start_coordinator()
        await cluster.start_agent("cloud")
        await cluster.wait_ready()
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            await _until(client, "algorithms", lambda found: bool(found))
            code_, _, err = await _heliograph("apply", "-f", str(SEED), "--server", cluster.server)
            assert code_ == 0, err
            document = await client.jobs.get("example-federatedtask")
            assert document["status"]["phase"] == "Pending"
            missing = document["status"]["conditions"][0]["message"]
            assert "model resnet50 does not exist" in missing
            assert "node edge0 of training worker work0 is unknown" in missing
            assert "training worker work1: no free edge offers data set dataset0" in missing
            await client.models.create({"kind": "Model", "metadata": {"name": "resnet50"}})
            for node in cluster.nodes.values():
                if node.broker is not None:
                    await node.broker.start()
                    await cluster.start_agent(node.name)
            status = await _ended(client, "example-federatedtask")
            assert status["phase"] == "Succeeded", status
            assert status["assignments"] == {"work0": "edge0", "work1": "edge1", "work2": "edge2"}
            metrics = status["rounds"][-1]["metrics"]
            assert metrics["batch_size"] == 32
            assert metrics["learning_rate"] == pytest.approx(0.001)
    finally:
        await cluster.stop()


async def test_weights_too_large_for_an_event_travel_as_blobs(tmp_path: Path) -> None:
    script = tmp_path / "code" / "large.py"
    script.parent.mkdir()
    script.write_text(
        "import numpy as np\n"
        "from heliograph import FederatedLearning\n"
        "model = {'w': np.zeros(1_000_003, np.float32)}\n"
        "for _ in FederatedLearning(model, num_samples=1).rounds():\n"
        "    model['w'] += 1\n"
    )
    worker = {"trainScriptBootFile": "large.py"}
    async with LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], code=(script.parent,)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            await client.models.create(MODEL)
            spec = {
                "aggregationWorker": {"model": {"name": "line"}},
                "trainingWorkers": [{"name": "all", "workerSpec": worker}],
                "participants": "all",
                "rounds": 4,
            }
            await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "large"}, "spec": spec})
            status = await _ended(client, "large")
            assert status["phase"] == "Succeeded", status
            assert status["rounds"][-1]["edges"] == ["edge-1", "edge-2"]
            path = await client.download("line", tmp_path / "model.safetensors")
            with TensorFile(path) as file:
                np.testing.assert_array_equal(file.numpy("w"), np.full(1_000_003, 4, np.float32))
            # the aggregation worker deletes summed updates after it publishes the result and before it ends
            await _until(client, "edges", lambda edges: not any(each["status"]["workers"] for each in edges))
            async with connect(cluster.broker.url("coordinator")) as bus:
                await bus.link.wait_up(HANGS)
                for name in ("edge-1", "edge-2"):  # summed updates are deleted
                    assert await (await bus.blobs(f"up-{name}")).digests() == []


@pytest.mark.long
async def test_unchanged_weights_are_not_deleted_with_the_weights_of_another_round(tmp_path: Path) -> None:
    script = tmp_path / "code" / "same.py"
    script.parent.mkdir()
    script.write_text(
        "import numpy as np\n"
        "from heliograph import FederatedLearning\n"
        "for _ in FederatedLearning({'w': np.ones(100_000, np.float32)}, num_samples=1).rounds():\n"
        "    pass\n"
    )
    worker = {"trainScriptBootFile": "same.py"}
    async with LocalCluster(tmp_path / "cluster", ["edge-1", "edge-2"], code=(script.parent,)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            await client.models.create(MODEL)
            spec = {
                "aggregationWorker": {"model": {"name": "line"}},
                "trainingWorkers": [{"name": "all", "workerSpec": worker}],
                "participants": "all",
                "rounds": 12,
            }
            for name in ("first", "second"):  # the second job begins with the first one's model
                await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
                status = await _ended(client, name)
                assert [each["counted"] for each in status["rounds"]] == [2] * 12, status
            models = await client.bus.blobs("models")
            versions = (await client.models.get("line"))["status"]["versions"]
            assert len(versions) == 2
            for version in versions:
                assert await models.has(version["weights"]["digest"])


@pytest.mark.long
async def test_a_script_that_fails_everywhere_ends_the_job_with_its_error(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "bad.py").write_text("raise RuntimeError('no such luck')\n")
    async with LocalCluster(tmp_path / "cluster", ["edge-1"], code=(tmp_path / "code",)) as cluster:
        async with AsyncClient(cluster.server, timeout=HANGS) as client:
            await client.models.create(MODEL)
            for name, script, words in (
                ("outside", "/etc/passwd", "does not lie under a --code root"),
                ("climbs", "../../x.py", "does not lie under a --code root"),
                ("bad", "bad.py", "RuntimeError: no such luck"),
            ):
                spec = {
                    "aggregationWorker": {"model": {"name": "line"}},
                    "trainingWorkers": [
                        {"name": "w", "nodeName": "edge-1", "workerSpec": {"trainScriptBootFile": script}}
                    ],
                }
                await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
                status = await _ended(client, name)
                assert status["phase"] == "Failed"
                complete = next(each for each in status["conditions"] if each["type"] == "Complete")
                assert words in complete["message"]


@pytest.mark.mosquitto
async def test_mosquitto_as_an_edges_broker_and_as_the_door(
    tmp_path: Path, regression: Any, task: Any, mosquitto: Callable[[], Awaitable[Any]]
) -> None:
    node, door = await mosquitto(), await mosquitto()
    cluster = _two_edges(tmp_path, regression, edge_brokers={"edge-1": node.url()}, doors=(door.url(),))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        await client.models.create(MODEL)
        file = tmp_path / "task.json"
        file.write_text(json.dumps(task("by-mosquitto", ["edge-1", "edge-2"])))
        where = ("-h", "127.0.0.1", "-p", str(door.port))
        publish = [
            "mosquitto_pub",
            *where,
            "-V",
            "mqttv5",
            "-q",
            "1",
            "-t",
            "heliograph/request/jobs/create",
            "-f",
            file,
        ]
        assert await (await asyncio.create_subprocess_exec(*publish)).wait() == 0
        await _until(client, "jobs", lambda found: bool(found))
        assert (await _ended(client, "by-mosquitto"))["phase"] == "Succeeded"
        reading = await asyncio.create_subprocess_exec(
            "mosquitto_sub", *where, "-t", "heliograph/status/jobs/by-mosquitto", "-F", "%p", stdout=-1
        )
        assert reading.stdout is not None
        async with asyncio.timeout(HANGS):
            async for line in reading.stdout:
                if decode(line.strip()).data["status"]["phase"] == "Succeeded":
                    break
        reading.terminate()
        await reading.wait()
        answer = await _ask_with_mqtt5(door.port)
        assert [each["metadata"]["name"] for each in answer["result"]] == ["by-mosquitto"]


async def _ask_with_mqtt5(port: int) -> Any:
    """Send a request with MQTT 5's own response topic and correlation data; return the answer."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()
    wanted = properties.Properties(PacketTypes.PUBLISH)
    wanted.ResponseTopic = "heliograph/reply/five/1"
    wanted.CorrelationData = b"42"
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_connect = lambda *_: client.subscribe("heliograph/reply/five/1", 1)
    client.on_subscribe = lambda *_: client.publish("heliograph/request/jobs/list", b"{}", 1, properties=wanted)
    client.on_message = lambda _, __, message: loop.call_soon_threadsafe(answered.set_result, message)
    client.connect("127.0.0.1", port)
    client.loop_start()
    message = await asyncio.wait_for(answered, HANGS)
    client.disconnect()
    client.loop_stop()
    assert message.properties.CorrelationData == b"42"
    return json.loads(message.payload)


async def test_the_node_accepts_only_events_of_its_own_workers(tmp_path: Path, regression: Any, task: Any) -> None:
    async with _two_edges(tmp_path, regression) as cluster, AsyncClient(cluster.server, timeout=HANGS) as client:
        await client.models.create(MODEL)
        await client.jobs.create(task("signed", ["edge-1", "edge-2"], rounds=1))
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        async with client.bus.subscribe(topics.LOG.filter(component="agent")) as logs:
            # this process has a login that may publish as any worker, but not the launch's secret
            async with connect(broker.url("agent", "mqtt")) as node:
                await node.link.wait_up(HANGS)
                from heliograph.bus.contract.event import Event, encode

                for source, key in (("edge-1/nobody/x1", b"guess"), ("edge-1/signed-edge-1/x1", b"guess")):
                    event = Event("1", source, topics.MODEL_UPDATE.type, {"evil": True}, sequence=1)
                    await node.publish("edge/edge-1/up/model-update/signed", encode(event, key=key))
            async with asyncio.timeout(HANGS):
                async for message in logs:
                    line = decode(message.body).data["message"]
                    if "refused on the node's broker" in line:  # said once for both: a flood is one line
                        break
            assert "a worker that this agent launched" in line
        await _until(client, "edges", lambda edges: 2 in [each["status"].get("refusedEvents") for each in edges])
        assert (await _ended(client, "signed"))["phase"] == "Succeeded"
