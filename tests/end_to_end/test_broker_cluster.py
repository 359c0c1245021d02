"""Each server of the cloud's cluster killed in turn under load: nothing acknowledged is lost or stored twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import aiomqtt
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.lanes import MESSAGE_ID
from heliograph.bus.contract.topics import Topic
from heliograph.bus.nats.bus import NatsBus
from heliograph.client import AsyncClient
from heliograph.core.errors import Unreachable
from heliograph.core.tasks import cancel_and_wait, keep_cancellation
from heliograph.local.cluster import LocalCluster
from heliograph.local.cluster_users import COORDINATOR
from tests.end_to_end.test_audit import audit
from tests.end_to_end.test_joint_inference import CLOUD, EDGE, HARD, Device, device_of, line_service, until_joint
from tests.patience import HANGS

EDGES = ["edge-1", "edge-2"]
ROUNDS = 300
ANSWERED = 10.0
"""Seconds after which a request is sent again: a server may have been killed with it."""
STEADY = 10
"""Rounds that pass between two kills."""
SLOW = """
import time
import numpy as np
from heliograph import FederatedLearning
model = {"w": np.zeros(3, np.float32)}
for r in FederatedLearning(model, num_samples=10).rounds():
    time.sleep(0.1)
    model["w"] += 1
"""


class Rounds:
    """The rounds of the job as its watcher sees them close."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._changed = asyncio.Event()
        self.closed = 0
        self.status: dict[str, Any] = {}

    async def follow(self) -> None:
        """Follow until the job has ended, over lost connections."""
        while self.status.get("phase", "Running") == "Running":
            with contextlib.suppress(Unreachable):
                async for document in self._client.jobs.watch("slow"):
                    self._take(document["status"])

    async def pass_by(self, more: int) -> None:
        """Wait until so many more rounds have closed."""
        wanted = self.closed + more
        async with asyncio.timeout(HANGS):
            while self.closed < wanted:
                assert self.status.get("phase", "Running") == "Running", "the job ended before the last kill"
                self._changed.clear()
                await self._changed.wait()

    def _take(self, status: dict[str, Any]) -> None:
        self.status = status
        if status["rounds"] and (closed := status["rounds"][-1]["round"]) > self.closed:
            self.closed = closed
            self._changed.set()


async def send_telemetry(cluster: LocalCluster, acknowledged: list[int]) -> None:
    """Send events to the node's broker for ever, and note those that it has acknowledged."""
    broker = cluster.nodes["edge-1"].broker
    assert broker is not None
    async with aiomqtt.Client("127.0.0.1", broker.mqtt_port) as device:
        while True:
            number = len(acknowledged)
            event = json.dumps({"number": number})
            # the library loses a cancellation that comes with the acknowledgement, 3 of 100 in this loop
            await keep_cancellation(device.publish("heliograph/event/telemetry/edge-1/meter", event, qos=1))
            acknowledged.append(number)
            await asyncio.sleep(0.02)


async def ask_for_ever(device: Device, answered: Counter[str]) -> None:
    while True:
        answer = await device.of(HARD)
        assert "error" not in answer, answer
        answered[answer["by"]] += 1
        await asyncio.sleep(0.05)


async def stored(bus: Any, topic: Topic[Any]) -> list[tuple[str, bytes]]:
    """Return the id and the body of each message of a topic's stream."""
    newest = await cast(NatsBus, bus).last_sequence(topic.stream_name)
    found: list[tuple[str, bytes]] = []
    async with bus.consume(topic.filter()) as messages, asyncio.timeout(HANGS):
        async for message in messages:
            found.append((message.headers.get(MESSAGE_ID, ""), message.body))
            if message.sequence == newest:
                return found
    return found


async def until_stored(bus: Any, number: int) -> None:
    """Wait until the journal of the edge's agent has reached the cloud's stream."""
    async with bus.consume(topics.TELEMETRY.filter()) as messages, asyncio.timeout(HANGS):
        async for message in messages:
            if _number_in(message.body) == number:
                return


def pauses(updates: list[tuple[str, bytes]]) -> list[float]:
    """Return the seconds between two updates that were made one after the other, the longest last."""
    times = sorted(datetime.fromisoformat(decode(body).time) for _, body in updates)
    return sorted((after - before).total_seconds() for before, after in pairwise(times))


def _number_in(body: bytes) -> int:
    return int(decode(body).data["number"])


@pytest.mark.long
async def test_each_server_of_three_is_killed_under_load(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for name, script in (("slow", SLOW), ("edge", EDGE), ("cloud", CLOUD)):
        (code / f"{name}.py").write_text(script)
    acknowledged: list[int] = []
    answered: Counter[str] = Counter()
    async with (
        LocalCluster(tmp_path / "cluster", EDGES, code=(code,), log=tmp_path / "log.txt", servers=3) as cluster,
        AsyncClient(cluster.server, timeout=ANSWERED, leader_timeout=HANGS) as client,
        connect(cluster.broker.url(COORDINATOR), name="watching") as bus,
        device_of(cluster) as device,
    ):
        await bus.link.wait_up(HANGS)
        for name in ("count", "shallow", "deep"):
            await client.models.create({"kind": "Model", "metadata": {"name": name}})
        await client.resources("services").create(line_service())
        await until_joint(device)
        worker = {"trainScriptBootFile": "slow.py"}
        workers = [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES]
        spec = {"aggregationWorker": {"model": {"name": "count"}}, "trainingWorkers": workers, "rounds": ROUNDS}
        await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "slow"}, "spec": spec})
        rounds = Rounds(client)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(rounds.follow())
            load = [group.create_task(send_telemetry(cluster, acknowledged)),
                    group.create_task(ask_for_ever(device, answered))]  # fmt: skip
            for broker in cluster.cloud_brokers:
                await rounds.pass_by(STEADY)
                await broker.kill()
                await rounds.pass_by(STEADY)
                await broker.start()
                await rounds.pass_by(STEADY)
            assert not following.done()
            await following
            await cancel_and_wait(*load)  # repeated: aiomqtt loses a cancellation that comes with an acknowledgement
        assert rounds.status["phase"] == "Succeeded", rounds.status
        assert rounds.closed == ROUNDS
        assert {each["counted"] for each in rounds.status["rounds"]} == {len(EDGES)}
        assert answered["cloud"]  # the edge answers only those that meet a server while it falls
        await until_stored(bus, acknowledged[-1])
        numbers = Counter(_number_in(body) for _, body in await stored(bus, topics.TELEMETRY))
        assert not set(acknowledged) - numbers.keys()
        assert set(numbers.values()) == {1}
        sent = await stored(bus, topics.MODEL_UPDATE)
        longest = pauses(sent)[-len(cluster.cloud_brokers) :]
        print("longest pauses between updates:", ", ".join(f"{each:.1f} s" for each in longest))
        updates = Counter(id for id, _ in sent)
        assert len(updates) == ROUNDS * len(EDGES) + 1  # one edge sends the initial weights
        assert set(updates.values()) == {1}
        keys = str(cluster.coordinator_keys)
        exit_code, lines, error = await audit(cluster.server, "verify", "--coordinator-keys", keys)
        assert exit_code == 0, (lines, error)
