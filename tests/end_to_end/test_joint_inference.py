"""A joint inference service over real processes: edge and cloud answer devices despite cuts and changes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgpack
import numpy as np
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import HARD_SAMPLE, LOG, STATUS
from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.client import AsyncClient
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.inference.inputs import as_tree, pack
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

MODEL = """
import numpy as np
class Line:
    '''Two classes: sure of the second where the first number is 0. Its weights are what is added to the scores.'''
    def __init__(self, scores):
        self.w = np.zeros(2)
        self.scores = scores
    def get(self):
        return {"w": self.w.copy()}
    def set(self, arrays):
        if set(arrays) != {"w"} or arrays["w"].shape != (2,):
            raise ValueError("expected w of shape (2,)")
        self.w[:] = arrays["w"]
    def __call__(self, batch):
        rows = []
        for x in batch:
            if x.flat[0] == 13:
                raise RuntimeError("thirteen")
            rows.append(self.scores(x) + self.w)
        return rows
"""
EDGE = MODEL + """
from heliograph import JointInference
JointInference("line", edge=Line(lambda x: np.array([0.5, 0.5]) if x.flat[0] else np.array([0.1, 0.9]))).serve()
"""
CLOUD = MODEL + """
from heliograph import BigModel
BigModel("line", Line(lambda x: np.array([0.8, 0.2]))).serve()
"""
EASY, HARD, BAD = 0.0, 1.0, 13.0
_CLOUD = {"model": {"name": "deep"}, "scriptBootFile": "cloud.py"}


def line_service(**spec: Any) -> dict[str, Any]:
    return {
        "kind": "JointInferenceService",
        "metadata": {"name": "line"},
        "spec": {
            "edgeWorker": {"model": {"name": "shallow"}, "scriptBootFile": "edge.py"},
            "cloudWorker": _CLOUD,
            "hardSampleRule": {"name": "threshold", "parameters": [{"key": "value", "value": 0.7}]},
            "deadlineSeconds": 1.0,
        }
        | spec,
    }


class Device:
    """A client of a node's broker, like any MQTT 3.1.1 client."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._number = 0

    async def read(self) -> None:
        async for message in self._client.messages:
            waiting = self._waiting.pop(str(message.topic), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(bytes(message.payload))

    async def ask(self, tree: dict[str, Any], form: str = "msgpack") -> dict[str, Any]:
        self._number += 1
        reply = f"heliograph/reply/device/{self._number}"
        self._waiting[reply] = asyncio.get_running_loop().create_future()
        body = pack(tree | {"reply_to": reply}) if form == "msgpack" else json.dumps(tree | {"reply_to": reply})
        await self._client.publish("heliograph/inference/line/request", body)
        async with asyncio.timeout(HANGS):
            answer = await self._waiting[reply]
        found: dict[str, Any] = msgpack.unpackb(answer) if form == "msgpack" else json.loads(answer)
        return found

    async def ask_elsewhere(self, service: str, tree: dict[str, Any]) -> dict[str, Any]:
        """Ask another service, in JSON."""
        reply = "heliograph/reply/device/elsewhere"
        self._waiting[reply] = asyncio.get_running_loop().create_future()
        body = json.dumps(tree | {"reply_to": reply})
        await self._client.publish(f"heliograph/inference/{service}/request", body)
        async with asyncio.timeout(HANGS):
            found: dict[str, Any] = json.loads(await self._waiting[reply])
        return found

    async def answered(self, value: float) -> dict[str, Any]:
        """Return the answer; empty if none comes within a second."""
        try:
            async with asyncio.timeout(1):
                return await self.of(value)
        except TimeoutError:
            return {}

    async def of(self, value: float, **more: Any) -> dict[str, Any]:
        return await self.ask({"input": as_tree(np.full((4, 4), value, np.float32))} | more)


@asynccontextmanager
async def device_of(cluster: LocalCluster) -> AsyncIterator[Device]:
    node = cluster.nodes["edge-1"]
    port = node.broker.mqtt_port if node.broker is not None else int(node.external_broker.rpartition(":")[2])
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("heliograph/reply/device/+")
        device = Device(client)
        reading = asyncio.create_task(device.read())
        try:
            yield device
        finally:
            reading.cancel()


@asynccontextmanager
async def _served(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[LocalCluster, AsyncClient, Device]]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "edge.py").write_text(EDGE)
    (code / "cloud.py").write_text(CLOUD)
    async with (
        LocalCluster(tmp_path / "cluster", ["edge-1"], code=(code,), relayed=("edge-1",), **more) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
        device_of(cluster) as device,
    ):
        for name in ("shallow", "deep"):
            await client.models.create({"kind": "Model", "metadata": {"name": name}})
        await client.resources("services").create(line_service())
        await until_joint(device)
        yield cluster, client, device


async def until_joint(device: Device) -> None:
    """Wait until the cloud answers a hard sample."""
    async with asyncio.timeout(HANGS):
        while (await device.answered(HARD)).get("by") != "cloud":
            pass


async def _status(client: AsyncClient, holds: Any) -> dict[str, Any]:
    async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.filter(resource="services")) as changes:
        while True:
            status: dict[str, Any] = (await client.resources("services").get("line"))["status"]
            if holds(status):
                return status
            await anext(changes)


async def test_devices_are_answered_by_edge_or_cloud_and_each_bad_request_by_its_error(tmp_path: Path) -> None:
    async with _served(tmp_path) as (cluster, client, device):
        easy, hard = await device.of(EASY), await device.of(HARD)
        assert (easy["result"], easy["by"], easy["degraded"]) == (1, "edge", False)
        assert (hard["result"], hard["by"], hard["degraded"]) == (0, "cloud", False)
        assert hard["scores"] == [0.8, 0.2]
        assert easy["seconds"] > 0
        as_json = await device.ask({"input": [[0.0, 1.0], [2.0, 3.0]]}, "json")
        assert as_json["by"] == "edge"
        tree = as_tree(np.zeros((4, 4), np.float32))
        for wrong, field in (
            ({"input": tree | {"data": b"123"}}, "input.data"),
            ({"input": tree | {"dtype": "object"}}, "input.dtype"),
            ({"input": tree | {"shape": [4, 5]}}, "input.data"),
            ({"input": as_tree(np.full((4, 4), np.nan, np.float32))}, "input"),
            ({"input": {"image": b"no image"}}, "input.image"),
            ({"input": tree, "deadline": 0}, "deadline"),
            ({"input": tree, "deadline": -1}, "deadline"),
            ({}, "input"),
        ):
            error = (await device.ask(wrong))["error"]
            assert error["field"] == field, error
            assert error["expected"]
        stray = (await device.ask_elsewhere("lines", {"input": [1]}))["error"]
        assert (stray["code"], stray["got"]) == ("unknown-service", "lines")
        assert stray["expected"].endswith("served on this node: line")
        raised = await device.of(BAD)
        assert raised["error"]["code"] == "model-failed"
        assert "RuntimeError: thirteen" in raised["error"]["got"]
        assert (await device.of(EASY))["by"] == "edge"  # the worker lives
        status = await _status(client, lambda status: status["total"].get("errors", 0) >= 9)
        total = status["total"]
        assert total["requests"] == total["byEdge"] + total["byCloud"] + total["errors"]
        assert total["hard"] == total["byCloud"] + total["degraded"]  # a hard sample counts as one request
        example = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).parents[2] / "examples" / "device_inference.py"), "127.0.0.1"),
            *(str(cluster.nodes["edge-1"].broker.mqtt_port), "line"),  # type: ignore[union-attr]
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await example.communicate()
        assert said.decode().startswith("1 by the edge, in ")


@pytest.mark.mosquitto
async def test_mosquitto_on_the_node_and_mqtt_5_with_a_response_topic(
    tmp_path: Path, mosquitto: Callable[[], Awaitable[Any]]
) -> None:
    node = await mosquitto()
    async with (
        _served(tmp_path, edge_brokers={"edge-1": node.url()}) as (_, client, device),
        aiomqtt.Client("127.0.0.1", node.port, protocol=aiomqtt.ProtocolVersion.V5) as camera,
    ):
        assert (await device.of(EASY))["by"] == "edge"
        await camera.subscribe("heliograph/reply/camera/1")
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        asked.ResponseTopic, asked.CorrelationData = "heliograph/reply/camera/1", b"42"
        body = json.dumps({"input": [[1.0, 2.0]]})
        await camera.publish("heliograph/inference/line/request", body, properties=asked)
        async with asyncio.timeout(HANGS):
            answer = await anext(aiter(camera.messages))
        assert json.loads(answer.payload)["by"] == "cloud"  # type: ignore[arg-type]
        assert answer.properties is not None
        assert answer.properties.CorrelationData == b"42"
        async with client.bus.subscribe(LOG.filter(component="worker")) as lines:
            asked.ResponseTopic = "heliograph/status/jobs/mine"
            await camera.publish("heliograph/inference/line/request", body, properties=asked)
            async with asyncio.timeout(HANGS):
                async for line in lines:
                    if "A reply can only be sent below heliograph/reply/" in decode(line.body).data["message"]:
                        break


async def test_without_the_cloud_the_edge_goes_on_and_finds_back(tmp_path: Path) -> None:
    async with _served(tmp_path) as (cluster, _, device):
        relay = cluster.nodes["edge-1"].relay
        assert relay is not None
        relay.cut("blackhole")
        for _ in range(12):
            answer = await device.of(HARD, deadline=0.2)
            assert (answer["by"], answer["degraded"], answer["result"]) == ("edge", True, 0)
        assert (await device.of(EASY))["degraded"] is False
        relay.restore()
        await until_joint(device)


@pytest.mark.long
async def test_the_cloud_killed_under_load_leaves_nobody_without_an_answer(tmp_path: Path) -> None:
    async with _served(tmp_path) as (cluster, client, device):
        await client.resources("services").update(line_service(cloudWorker=_CLOUD | {"replicas": 2}))
        answers: list[str] = []
        going = True
        progress = asyncio.Event()

        async def reached(holds: Callable[[], bool]) -> None:
            async with asyncio.timeout(HANGS):
                while not holds():
                    progress.clear()
                    await progress.wait()

        async def load() -> None:
            while going:
                answers.append((await device.of(HARD, deadline=3))["by"])
                progress.set()

        loads = [asyncio.create_task(load()) for _ in range(8)]
        await reached(lambda: answers.count("cloud") >= 200)
        before = len(answers)
        await cluster.kill("cloud")
        await reached(lambda: len(answers) >= before + 400)
        degraded = answers[before:].count("edge")
        await cluster.start_agent("cloud")
        await until_joint(device)
        going = False
        await asyncio.gather(*loads)
    assert degraded > 300


async def test_a_rule_and_weights_change_while_it_serves(tmp_path: Path) -> None:
    async with _served(tmp_path) as (cluster, client, device):
        services = client.resources("services")
        lower = {"name": "threshold", "parameters": [{"key": "value", "value": 0.3}]}
        await services.update(line_service(hardSampleRule=lower))
        async with asyncio.timeout(HANGS):
            while (await device.of(HARD))["by"] != "edge":
                pass
        weights = write({"w": np.array([5.0, 0.0])}, tmp_path / "weights")
        ref = json.loads(weights.model_dump_json(exclude_none=True))
        await client.models.update({"kind": "Model", "metadata": {"name": "shallow"}, "spec": {"weights": ref}})
        async with asyncio.timeout(HANGS):
            while (await device.of(EASY))["result"] != 0:
                pass
        wrong = write({"w": np.zeros(3)}, tmp_path / "weights")
        ref = json.loads(wrong.model_dump_json(exclude_none=True))
        await client.models.update({"kind": "Model", "metadata": {"name": "shallow"}, "spec": {"weights": ref}})
        status = await _status(client, lambda status: status["edges"]["edge-1"].get("trouble"))
        assert "expected w of shape (2,)" in status["edges"]["edge-1"]["trouble"]
        assert (await device.of(EASY))["result"] == 0  # the earlier weights keep serving
        assert status["edges"]["edge-1"]["model"] == weights.digest
        (there,) = (await client.models.deployment("shallow"))["edges"]
        assert (there["state"], there["version"], there["running"]) == ("failing", 0, weights.digest)
        assert "expected w of shape (2,)" in there["reason"]

        # an agent that trusts another key serves what this coordinator has signed no more
        keys = cluster.directory / "model-keys.pem"
        keys.write_text(Signer.made(World()).public_key)
        await cluster.kill("edge-1")
        await cluster.start_agent("edge-1")
        status = await _status(client, lambda status: "signature" in status["edges"]["edge-1"].get("trouble", ""))
        assert f"model {wrong.digest[:12]}: field signatures: expected a signature by a trusted key" in (
            status["edges"]["edge-1"]["trouble"]
        )


async def test_a_bound_incremental_job_gets_each_hard_sample_once(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, client, device):
        await client.resources("services").update(line_service(hardSamplesTo="learn"))
        async with client.bus.subscribe(HARD_SAMPLE.filter(job="learn", edge="edge-1")) as samples:
            async with asyncio.timeout(HANGS):
                first = asyncio.create_task(anext(samples))
                while not first.done():  # until the worker has the new settings
                    await device.of(HARD)
            for value in (2.0, EASY, 3.0):
                await device.of(value)
            found: list[float] = []
            async with asyncio.timeout(HANGS):
                while found[-1:] != [3.0]:
                    sample = HARD_SAMPLE.validate(decode((await anext(samples)).body).data, "")
                    assert sample.scores == [0.5, 0.5]
                    assert sample.data is not None
                    with TensorFile(sample.data.inline or b"", "sample") as file:
                        found.append(float(file.numpy("x").flat[0]))
    assert [value for value in found if value != HARD] == [2.0, 3.0]


@pytest.mark.long
async def test_stopped_nobody_answers_and_started_again_they_do(tmp_path: Path) -> None:
    async with _served(tmp_path) as (_, client, device):
        services = client.resources("services")
        await services.stop("line")
        await _status(client, lambda status: status["phase"] == "Stopped")
        async with asyncio.timeout(HANGS):
            while "error" not in (answer := await device.of(EASY)):
                pass
        assert answer["error"]["code"] == "unknown-service"
        await services.start("line")
        await until_joint(device)
        await services.delete("line")
        assert await services.list() == []
