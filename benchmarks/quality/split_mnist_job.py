"""Split-MNIST through an incremental learning job: real processes, from the hard sample to the deployed version.

    python -m benchmarks.quality.split_mnist_job icarl --samples 12000 --steps 2000

A worker captures the images of one task after the other as hard samples, a labeller who knows them labels all, and a
round is asked for by hand. Each round's deployed version is downloaded and measured on the test images of the digits so
far. Two per cent of the samples are the gate's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiomqtt
import numpy as np

from benchmarks.quality.mnist import mnist
from benchmarks.quality.perceptron import Perceptron
from benchmarks.quality.split_mnist import TASKS
from heliograph.bus.contract import topics
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.label_client import Labeller
from heliograph.local.cluster import LocalCluster

NAME, JOBS = "mnist", "incremental-jobs"
BURST, CLAIM = 100, 64
REPLY = "heliograph/reply/device/1"
LEAST = {"none": 0.19, "replay": 0.90, "icarl": 0.935}
CAMERA = """
import numpy as np
from heliograph import JointInference, session
IMAGES, ROW = np.load({images!r}), np.array([0.5, 0.5])

def model(batch):
    first, count = (int(each) for each in batch[0])
    for image in IMAGES[first : first + count]:
        session.serving("edge").publish_hard(image, ROW)
    return [ROW] * len(batch)

JointInference("camera", edge=model, rule="never").serve()
"""


async def run(strategy: str, samples: int, steps: int, directory: Path) -> list[float]:
    """Return the accuracy of the deployed version on the test images of the classes so far, after each task."""
    images, labels, ends = _write_images(directory, samples)
    code = directory / "code"
    code.mkdir()
    (code / "camera.py").write_text(CAMERA.format(images=str(directory / "images.npy")))
    found = []
    async with (
        LocalCluster(directory / "cluster", ["edge-1"], code=(code, Path(__file__).parent)) as cluster,
        AsyncClient(cluster.server) as client,
    ):
        await _begin(client, strategy, steps)
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None
        known = {image.tobytes(): str(label) for image, label in zip(images, labels, strict=True)}
        begin = 0
        async with (
            aiomqtt.Client(broker.host, broker.mqtt_port) as device,
            client.bus.subscribe(topics.LABEL_TASK.filter(job=NAME)) as tasks,
            Labeller(client, NAME, "oracle", source="oracle") as labeller,
        ):
            for number, end in enumerate(ends, 1):
                began = time.monotonic()
                await _label(device, tasks, labeller, known, begin, end)
                labelled = time.monotonic()
                await client.resources(JOBS).ask("training", NAME)
                await _deployed(client, number)
                begin = end
                found.append(await _accuracy(client, directory, number))
                print(f"task {number}: {found[-1]:.4f}   {end} samples; labelled in {labelled - began:.0f} s, deployed "
                      f"{time.monotonic() - labelled:.0f} s later", flush=True)  # fmt: skip
    return found


def _write_images(directory: Path, samples: int) -> tuple[Any, list[int], list[int]]:
    """Write the images of the tasks, one task after the other, and return them, their classes, and each task's end."""
    (x, y), _ = mnist()
    chosen = [np.flatnonzero(np.isin(y, task))[: samples // len(TASKS)] for task in TASKS]
    order = np.concatenate(chosen)
    images = np.unique(np.rint(x[order] * 255).astype(np.uint8), axis=0, return_index=True)[1]
    order = order[np.sort(images)]  # an image that comes twice is one task of the queue
    ends = [int(np.isin(y[order], [each for task in TASKS[:number] for each in task]).sum())
            for number in range(1, len(TASKS) + 1)]  # fmt: skip
    images = np.rint(x[order] * 255).astype(np.uint8)
    np.save(directory / "images.npy", images)
    return images, y[order].tolist(), ends


async def _begin(client: AsyncClient, strategy: str, steps: int) -> None:
    for name in ("camera", NAME):
        await client.models.create({"kind": "Model", "metadata": {"name": name}})
    service = {"edgeWorker": {"model": {"name": "camera"}, "scriptBootFile": "camera.py"},
               "hardSampleRule": {"name": "never"}, "hardSamplesTo": NAME}  # fmt: skip
    await client.services.create({"kind": "JointInferenceService", "metadata": {"name": "camera"}, "spec": service})
    queue = {"labelSchema": {"classes": [str(each) for task in TASKS for each in task]}, "mostTasks": 100_000}
    await client.labels.create({"kind": "LabelQueue", "metadata": {"name": NAME}, "spec": queue})
    worker = {"trainScriptBootFile": "split_mnist_script.py",
              "parameters": [{"key": "strategy", "value": strategy}, {"key": "steps", "value": steps}]}  # fmt: skip
    job = {"models": [{"model": {"name": NAME}, "workerSpec": worker}], "evaluation": {"heldOut": 2},
           "gate": {"margin": -1, "leastSupport": 1}}  # fmt: skip
    await client.resources(JOBS).create({"kind": "IncrementalLearningJob", "metadata": {"name": NAME}, "spec": job})


async def _label(
    device: aiomqtt.Client, tasks: Any, labeller: Labeller, known: dict[bytes, str], begin: int, end: int
) -> None:
    """Capture images as hard samples, and label each."""
    sent = queued = labelled = 0
    while labelled < end - begin:
        while sent < end - begin and sent < queued + 2 * BURST:  # a worker has at most 256 on their way
            count = min(BURST, end - begin - sent)
            body = json.dumps({"input": [begin + sent, count], "reply_to": REPLY})
            await device.publish("heliograph/inference/camera/request", body)
            sent += count
        try:
            async with asyncio.timeout(5 if queued < sent else 0.001):
                while queued < sent - BURST // 2 or (sent == end - begin and queued < sent):
                    await anext(tasks)
                    queued += 1
        except TimeoutError:
            if queued == 0:
                sent = 0  # the camera was not there yet
        for task in await labeller.claim(CLAIM):
            await labeller.submit(task, known[_image_of(task.task.data.inline)])
            labelled += 1


def _image_of(content: bytes | None) -> bytes:
    assert content is not None  # a small sample comes in its claim
    with TensorFile(content) as file:
        return file.numpy("x").tobytes()


async def _deployed(client: AsyncClient, number: int) -> None:
    """Return once the job has ended its round."""
    while True:
        status = (await client.resources(JOBS).get(NAME))["status"]
        rounds = status.get("rounds", [])
        if rounds and rounds[-1]["round"] >= number:
            outcome = rounds[-1]["models"][NAME]
            if outcome["decision"] != "deployed":
                raise HeliographError(f"round {number}: {outcome['decision']}: {outcome.get('reason')}")
            return
        await asyncio.sleep(0.5)


async def _accuracy(client: AsyncClient, directory: Path, number: int) -> float:
    _, (x, y) = mnist()
    network = Perceptron(x.shape[1], len(TASKS[0]))
    file = await client.download(NAME, directory / f"round-{number}.safetensors")
    with TensorFile(file) as weights:
        network.weights = {name: array.copy() for name, array in weights.arrays().items()}
    seen = np.isin(y, [each for task in TASKS[:number] for each in task])
    return float((network.scores(x[seen]).argmax(1) == y[seen]).mean())


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each task. Return 1 where the last one misses its figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.split_mnist_job")
    parser.add_argument("strategy", choices=sorted(LEAST))
    parser.add_argument("--samples", type=int, default=60_000, help="training images, at most")
    parser.add_argument("--steps", type=int, default=2000, help="steps of a task")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="heliograph-split-mnist-") as directory:
        found = asyncio.run(run(given.strategy, given.samples, given.steps, Path(directory)))
    print(f"{given.strategy}: {found[-1]:.4f}, at least {LEAST[given.strategy]:g}")
    return int(found[-1] < LEAST[given.strategy])


if __name__ == "__main__":
    sys.exit(main())
