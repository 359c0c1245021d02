"""Services whose workers are files, through real processes: an ONNX model answers on the edge, a second in the cloud,
and another file takes the edge's place while it serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import aiomqtt
import pytest

from heliograph.bus.contract.topics import STATUS
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.onnx_writer import model
from tests.patience import HANGS

CATS, SWAPPED = [[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]], [[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]
SERVICE: dict[str, Any] = {
    "kind": "JointInferenceService",
    "metadata": {"name": "cats"},
    "spec": {
        "edgeWorker": {"model": {"name": "small"}, "format": "onnx"},
        "cloudWorker": {"model": {"name": "deep"}, "format": "onnx"},
        "hardSampleRule": {"name": "threshold", "parameters": [{"key": "value", "value": 0.7}]},
        "deadlineSeconds": 20.0,
    },
}


@pytest.mark.long
async def test_files_answer_on_both_sides_and_another_takes_the_place_of_one(
    tmp_path: Path, framework: Callable[[str], ModuleType]
) -> None:
    framework("onnxruntime")
    small, deep, swapped = tmp_path / "small.onnx", tmp_path / "deep.onnx", tmp_path / "swapped.onnx"
    for file, weights in ((small, CATS), (deep, CATS), (swapped, SWAPPED)):
        file.write_bytes(model(weights, classes="cat,dog"))
    async with (
        LocalCluster(tmp_path / "cluster", ["edge-1"]) as cluster,
        AsyncClient(cluster.server, timeout=HANGS) as client,
    ):
        made = await client.upload("small", small)
        await client.upload("deep", deep)
        assert made["spec"]["weights"]["format"] == "onnx"
        assert [each["name"] for each in made["spec"]["inputs"]] == ["x"]
        assert (await client.download("small", tmp_path / "back.onnx")).read_bytes() == small.read_bytes()
        exported = await client.export("small", tmp_path / "exported")
        assert (exported / "model.onnx").read_bytes() == small.read_bytes()
        await client.resources("services").create(SERVICE)
        async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.filter(resource="services")) as changes:
            while (await client.resources("services").get("cats"))["status"]["phase"] != "Running":
                await anext(changes)
        node = cluster.nodes["edge-1"]
        assert node.broker is not None
        async with aiomqtt.Client("127.0.0.1", node.broker.mqtt_port) as device:
            await device.subscribe("heliograph/reply/device/+")

            async def ask(x: list[float]) -> dict[str, Any]:
                body = json.dumps({"input": x, "reply_to": "heliograph/reply/device/1"})
                await device.publish("heliograph/inference/cats/request", body)
                async with asyncio.timeout(HANGS):
                    found: dict[str, Any] = json.loads((await anext(aiter(device.messages))).payload)
                return found

            sure, unsure = await ask([1.0, 0.0, 0.0]), await ask([0.0, 0.05, 0.0])
            assert (sure["result"], sure["by"], sure["model"]) == ("cat", "edge", made["spec"]["weights"]["digest"])
            assert (unsure["result"], unsure["by"]) == ("dog", "cloud")
            refused = await ask([1.0])
            assert refused["error"]["code"] == "invalid" and "shape (3)" in refused["error"]["expected"]
            other = (await client.upload("small", swapped))["spec"]["weights"]["digest"]
            async with asyncio.timeout(HANGS):
                while (await ask([1.0, 0.0, 0.0]))["model"] != other:
                    pass
            assert (await ask([1.0, 0.0, 0.0]))["result"] == "dog"
