"""Joint inference with models that compute nothing: the cost of the transport, over the shipped processes."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.declaration import Samples
from heliograph import JointInference
from heliograph.client import AsyncClient
from heliograph.inference.inputs import as_tree, pack
from heliograph.local.cluster import HERE, LocalCluster
from heliograph.local.cluster_tls import Listening

SERVICE = "nothing"
EDGE_SCRIPT = """
import numpy as np
from heliograph import JointInference
SURE, UNSURE = np.array([0.9, 0.1]), np.array([0.5, 0.5])
JointInference("nothing", edge=lambda batch: [UNSURE if x.flat[0] else SURE for x in batch]).serve()
"""
CLOUD_SCRIPT = """
import numpy as np
from heliograph import BigModel
ROW = np.array([0.1, 0.9])
BigModel("nothing", lambda batch: [ROW] * len(batch)).serve()
"""
CALLS = 1000
RATE_CALLS = 4000
IN_FLIGHT = 64
REPLY = "heliograph/reply/device/1"


def calls() -> Samples:
    """Return milliseconds of each call (``application``, ``device, edge``, ``device, offloaded``, ``frame``), answers
    per second (``rate, edge``, ``rate, offloaded``) and MB of an offloaded frame (``frame bytes``)."""
    return asyncio.run(_calls())


def offloads(listening: Listening) -> list[float]:
    """Return milliseconds of each call of a device that is offloaded, where the cloud's broker listens so."""
    return asyncio.run(_offloads(listening))


async def _calls() -> Samples:
    async with serving(HERE) as cluster:
        node = node_of(cluster)
        in_thread = asyncio.get_running_loop().run_in_executor
        found: dict[str, list[float]] = await in_thread(None, application, node)
        for name, value in (("edge", 0), ("offloaded", 1)):
            found |= await in_thread(None, device, node, name, value)
    return found


async def _offloads(listening: Listening) -> list[float]:
    async with serving(listening) as cluster:
        node = node_of(cluster)
        in_thread = asyncio.get_running_loop().run_in_executor
        await in_thread(None, application, node)
        found: dict[str, list[float]] = await in_thread(None, device, node, "offloaded", 1)
    return found["device, offloaded"]


@asynccontextmanager
async def serving(listening: Listening) -> AsyncIterator[LocalCluster]:
    """Run the service on ``edge-1`` of a cluster."""
    with tempfile.TemporaryDirectory(prefix="heliograph-inference-") as directory:
        code = Path(directory) / "code"
        code.mkdir()
        (code / "edge.py").write_text(EDGE_SCRIPT)
        (code / "cloud.py").write_text(CLOUD_SCRIPT)
        async with (
            LocalCluster(Path(directory) / "cluster", ["edge-1"], code=(code,), listening=listening) as cluster,
            AsyncClient(cluster.server) as client,
        ):
            await _serve(client)
            yield cluster


def node_of(cluster: LocalCluster) -> str:
    """Return the URL of the node's broker."""
    broker = cluster.nodes["edge-1"].broker
    assert broker is not None
    return broker.url(scheme="mqtt")


async def _serve(client: AsyncClient) -> None:
    for name in ("shallow", "deep"):
        await client.models.create({"kind": "Model", "metadata": {"name": name}})
    spec = {
        "edgeWorker": {"model": {"name": "shallow"}, "scriptBootFile": "edge.py"},
        "cloudWorker": {"model": {"name": "deep"}, "scriptBootFile": "cloud.py"},
        "deadlineSeconds": 2,
    }
    await client.resources("services").create(
        {"kind": "JointInferenceService", "metadata": {"name": SERVICE}, "spec": spec}
    )


def application(node: str) -> dict[str, list[float]]:
    """Call from an application, once the service has started."""
    unsure = np.array([0.5, 0.5])
    small, frame = np.ones((32, 32, 3), np.float32), np.zeros((1080, 1920, 3), np.uint8)
    with JointInference(SERVICE, edge=lambda batch: [unsure] * len(batch), node=node) as service:
        began = time.monotonic()
        while service.infer(small, deadline=1).by != "cloud":  # its workers are still starting
            assert time.monotonic() - began < 30, "the service did not start"
            time.sleep(0.05)
        degraded = service.counts.degraded
        laps = {"application": _laps(lambda: service.infer(small), CALLS)}
        before = service.counts.bytes_offloaded
        laps["frame"] = _laps(lambda: service.infer(frame, deadline=5), 20)
        laps["frame bytes"] = [(service.counts.bytes_offloaded - before) / 20 / 1e6]
        assert service.counts.degraded == degraded, "the cloud left requests unanswered"
    return laps


def _laps(call: Any, count: int) -> list[float]:
    found = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return found


def device(node: str, name: str, value: int) -> dict[str, list[float]]:
    """Send requests one by one, then with IN_FLIGHT requests outstanding."""
    host, _, port = node.rpartition("/")[2].rpartition(":")
    body = pack({"input": as_tree(np.full((32, 32, 3), value, np.float32)), "deadline": 2.0, "reply_to": REPLY})
    answers, ready = threading.Semaphore(0), threading.Event()
    client: Any = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_socket_open = lambda _, __, opened: opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.on_connect = lambda *_: client.subscribe(REPLY)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda *_: answers.release()
    client.connect(host, int(port))
    client.loop_start()
    ready.wait(10)

    def call() -> None:
        client.publish(f"heliograph/inference/{SERVICE}/request", body)
        assert answers.acquire(timeout=5), "no answer"

    laps = _laps(call, CALLS)
    for _ in range(IN_FLIGHT):
        answers.release()
    began = time.perf_counter()
    for _ in range(RATE_CALLS):
        assert answers.acquire(timeout=5), "no answer"
        client.publish(f"heliograph/inference/{SERVICE}/request", body)
    for _ in range(IN_FLIGHT):
        assert answers.acquire(timeout=5), "no answer"
    rate = RATE_CALLS / (time.perf_counter() - began)
    client.disconnect()
    client.loop_stop()
    return {f"device, {name}": laps, f"rate, {name}": [rate]}

