"""New weights for a served model while devices ask: how long after they have arrived, and what it costs the requests.

Broker, coordinator, agent and worker are the shipped processes; the device asks at a fixed rate."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.declaration import Samples
from heliograph.bus.contract.weights_file import dumps
from heliograph.client import AsyncClient
from heliograph.inference.inputs import as_tree, pack
from heliograph.local.cluster import LocalCluster

SERVICE = "swapped"
SIZE = 2_500_000
"""Numbers of the model: 10 MB."""
RATE = 500
SWAPS = 5
APART = 1.5
"""Seconds between two swaps."""
SCRIPT = f"""
import numpy as np
from heliograph import JointInference

class Weights:
    w = np.zeros({SIZE}, np.float32)
    def get(self):
        return {{"w": self.w}}
    def set(self, arrays):
        self.w = np.array(arrays["w"])
    def __call__(self, batch):  # the scores tell which weights answered
        return [np.array([self.w[0], self.w[-1]]) for _ in batch]

JointInference("{SERVICE}", edge=Weights(), rule="never").serve()
"""
REPLY = "heliograph/reply/device"


def swaps() -> Samples:
    """Return ``swap``, milliseconds from when a version's weights lie on the node until the first answer by them;
    ``rate``, the requests per second; ``lost``, the requests without an answer; and ``wrong``, those with an error or
    with the scores of another version than the answer names."""
    return asyncio.run(_swaps())


async def _swaps() -> Samples:
    with tempfile.TemporaryDirectory(prefix="heliograph-swap-") as directory:
        code = Path(directory) / "code"
        code.mkdir()
        (code / "edge.py").write_text(SCRIPT)
        async with (
            LocalCluster(Path(directory) / "cluster", ["edge-1"], code=(code,)) as cluster,
            AsyncClient(cluster.server) as client,
        ):
            known = {await _uploaded(client, Path(directory), 0): 0.0}
            edge = {"model": {"name": SERVICE}, "scriptBootFile": "edge.py"}
            await client.services.create(
                {"kind": "JointInferenceService", "metadata": {"name": SERVICE}, "spec": {"edgeWorker": edge}}
            )
            node = cluster.nodes["edge-1"]
            assert node.broker is not None
            device = Device(node.broker.host, node.broker.mqtt_port)
            await asyncio.to_thread(device.wait_until_served)
            (models,) = {path.parent for path in (Path(directory) / "cluster").rglob(next(iter(known)))
                         if path.is_file() and "edge-1" in path.parts}  # fmt: skip
            device.start()
            arrived: dict[str, float] = {}
            for number in range(1, SWAPS + 1):
                await asyncio.sleep(APART)
                digest = await _uploaded(client, Path(directory), number)
                known[digest] = float(number)
                arrived[digest] = await _arrival(models, digest)
            await asyncio.sleep(APART)
            await asyncio.to_thread(device.stop)
    return device.samples(known, arrived)


async def _uploaded(client: AsyncClient, directory: Path, number: int) -> str:
    """Make the service's model a version whose weights are all that number. Return its digest."""
    data = dumps({"w": np.full(SIZE, number, np.float32)})
    file = directory / f"version-{number}"
    await asyncio.to_thread(file.write_bytes, data)
    await client.upload(SERVICE, file)
    return hashlib.sha256(data).hexdigest()


async def _arrival(models: Path, digest: str) -> float:
    """Return when a model's file is on the node."""
    async with asyncio.timeout(30):
        while not (models / digest).exists():
            await asyncio.sleep(0.001)
    return time.perf_counter()


class Device:
    """A device that asks RATE times a second, from a thread of its own, and keeps the answers with their times."""

    def __init__(self, host: str, port: int) -> None:
        self._answers: dict[str, tuple[float, dict[str, Any]]] = {}
        self._sent = 0
        self._seconds = 0.0
        self._came, self._ending = threading.Event(), threading.Event()
        subscribed = threading.Event()
        client: Any = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_socket_open = lambda _, __, opened: opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.on_connect = lambda *_: client.subscribe(f"{REPLY}/+")
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._take
        client.connect(host, port)
        client.loop_start()
        self._client = client
        subscribed.wait(10)
        self._thread = threading.Thread(target=self._ask)

    def wait_until_served(self) -> None:
        """Return once the service has answered by the first version."""
        for _ in range(400):
            self._came.clear()
            self._request("first")
            self._came.wait(1)
            time.sleep(0.1)
            if self._answers.get("first", (0.0, {}))[1].get("model"):
                self._answers.clear()
                return
        raise TimeoutError("the service did not start")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop asking, and wait for the last answers."""
        self._ending.set()
        self._thread.join()
        for _ in range(100):
            if len(self._answers) >= self._sent:
                break
            time.sleep(0.05)
        self._client.disconnect()
        self._client.loop_stop()

    def samples(self, known: dict[str, float], arrived: dict[str, float]) -> Samples:
        """Return the figures, from the number of each version and the times at which they came to the node."""
        answers = list(self._answers.values())
        right = [known.get(tree.get("model", ""), -1.0) == tree.get("scores", [None])[0] for _, tree in answers]
        first = {digest: min((at for at, tree in answers if tree.get("model") == digest), default=float("inf"))
                 for digest in arrived}  # fmt: skip
        return {
            "swap": [1000 * max(first[digest] - at, 0.0) for digest, at in arrived.items()],
            "rate": [self._sent / self._seconds],
            "lost": [float(self._sent - len(answers))],
            "wrong": [float(right.count(False))],
        }

    def _ask(self) -> None:
        began = time.perf_counter()
        while not self._ending.is_set():
            self._request(str(self._sent))
            self._sent += 1
            time.sleep(max(began + self._sent / RATE - time.perf_counter(), 0.0))
        self._seconds = time.perf_counter() - began

    def _request(self, name: str) -> None:
        body = pack({"input": as_tree(np.ones(8, np.float32)), "deadline": 5.0, "reply_to": f"{REPLY}/{name}"})
        self._client.publish(f"heliograph/inference/{SERVICE}/request", body)

    def _take(self, _: Any, __: Any, message: Any) -> None:
        name = message.topic.rpartition("/")[2]
        if name == "first" and self._thread.is_alive():
            return  # an answer to a question before the start
        self._answers[name] = time.perf_counter(), msgpack.unpackb(message.payload)
        self._came.set()
