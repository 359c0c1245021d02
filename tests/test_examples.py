"""The examples: each training script learns on its own, and the README explains every file of the folder."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import LOG, STATUS
from heliograph.cli.printing.documents import read_documents
from heliograph.client import AsyncClient
from heliograph.local.cluster import LocalCluster
from tests.patience import HANGS

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.quality
@pytest.mark.parametrize(("script", "needs", "least"), [
    ("numpy_digits", "numpy", 0.9), ("sklearn_digits", "sklearn", 0.9), ("torch_digits", "torch", 0.9),
    ("keras_digits", "keras", 0.85), ("jax_digits", "jax", 0.85), ("sklearn_pipeline", "sklearn", 0.85),
    ("keras_callbacks", "keras", 0.85),
    ("lightning_digits", "pytorch_lightning", 0.85), ("lora_digits", "peft", 0.6),
    ("xgboost_leaves", "xgboost", 0.85), ("project/train", "numpy", 0.85),
])  # fmt: skip
def test_a_script_learns_on_its_own(
    script: str, needs: str, least: float, framework: Callable[[str], ModuleType]
) -> None:
    framework(needs)
    done = subprocess.run([sys.executable, f"{script}.py"], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = [float(each) for each in re.findall(r"accuracy (0\.\d+)", done.stdout)]
    assert len(accuracies) == 10, done.stdout
    assert accuracies[-1] > least, accuracies


@pytest.mark.quality
@pytest.mark.parametrize(("script", "needs"), [
    ("incremental_numpy", "numpy"), ("incremental_sklearn", "sklearn"), ("incremental_torch", "torch"),
    ("incremental_keras", "keras"),
])  # fmt: skip
def test_a_script_that_learns_on_learns_on_its_own(
    script: str, needs: str, framework: Callable[[str], ModuleType]
) -> None:
    framework(needs)
    done = subprocess.run([sys.executable, f"{script}.py"], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracies = [float(each) for each in re.findall(r"accuracy (0\.\d+)", done.stdout)]
    assert len(accuracies) == 1 and accuracies[0] > 0.9, done.stdout


@pytest.mark.quality
def test_a_lifelong_model_opens_a_task_for_each_kind_of_image(framework: Callable[[str], ModuleType]) -> None:
    framework("sklearn")
    done = subprocess.run([sys.executable, "lifelong_digits.py"], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 task opened") == 3 and "3 altogether" in done.stdout, done.stdout
    known, right, accuracy = map(float, re.findall(r"\d\.\d{3}", done.stdout))
    assert known > 0.75 and right > 0.9 and accuracy > 0.85, done.stdout


@pytest.mark.quality
def test_a_pair_offloads_less_than_one_of_the_own_images_alone_and_is_no_less_accurate() -> None:
    done = subprocess.run([sys.executable, "pair/train.py"], cwd=EXAMPLES, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = re.findall(r"joint accuracy (0\.\d+), offload ratio (0\.\d+)", done.stdout)
    (before, offloaded_before), (after, offloaded_after) = [tuple(map(float, each)) for each in figures]
    assert after >= before and offloaded_after < offloaded_before / 2, done.stdout


@pytest.mark.long
async def test_the_service_answers_the_camera(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path, ["edge-1"], code=(EXAMPLES,))
    async with cluster, AsyncClient(cluster.server, timeout=HANGS) as client, asyncio.timeout(HANGS):
        async with client.bus.subscribe(LOG.filter()) as lines:
            for document in read_documents(str(EXAMPLES / "joint-inference-service.yaml")):
                await client.resources(document.resource.plural).apply(document.tree)
            serving: set[str] = set()
            while serving != {"edge-1", "cloud"}:
                line = await anext(lines)
                if b"serves digits" in line.body:
                    serving.add(decode(line.body, line.topic).source.partition("/")[0])
        node = cluster.nodes["edge-1"].broker
        assert node is not None
        words = [str(EXAMPLES / "device_inference.py"), "127.0.0.1", str(node.mqtt_port), "digits"]
        while True:  # a camera gives up after five seconds; on a busy machine the scripts train for longer
            camera = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
            out, _ = await camera.communicate()
            if camera.returncode == 0:
                break
        assert re.match(r"\d by the (edge|cloud)", out.decode()), out


async def test_the_exported_model_answers_the_camera_without_a_script(
    tmp_path: Path, framework: Callable[[str], ModuleType]
) -> None:
    for needed in ("torch", "onnxruntime", "onnxscript"):
        framework(needed)
    script = str(EXAMPLES / "onnx_digits.py")
    exporting = await asyncio.create_subprocess_exec(sys.executable, script, cwd=tmp_path)
    assert await exporting.wait() == 0
    async with LocalCluster(tmp_path / "cluster", ["edge-1"]) as cluster, AsyncClient(cluster.server) as client:
        await client.upload("digits-onnx", tmp_path / "digits.onnx")
        (service,) = read_documents(str(EXAMPLES / "onnx-service.yaml"))
        await client.resources("services").apply(service.tree)
        async with asyncio.timeout(HANGS), client.bus.subscribe(STATUS.filter(resource="services")) as changes:
            while (await client.resources("services").get("digits-onnx"))["status"]["phase"] != "Running":
                await anext(changes)
        node = cluster.nodes["edge-1"].broker
        assert node is not None
        words = [str(EXAMPLES / "device_inference.py"), "127.0.0.1", str(node.mqtt_port), "digits-onnx"]
        camera = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
        out, _ = await camera.communicate()
        assert re.match(r"\d by the edge", out.decode()), out


def test_every_example_is_explained() -> None:
    text = (EXAMPLES / "README.md").read_text()
    found = (path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*") if path.is_file())
    files = {path.as_posix() for path in found if "__pycache__" not in path.parts and path.name != "README.md"}
    assert {name for name in files if f"({name})" not in text} == set()
