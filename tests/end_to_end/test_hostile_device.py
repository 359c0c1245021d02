"""A device on a node's broker that speaks as the node's workers and as their agent: no result of a worker is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.payloads import Ack, Assignment, WorkerState
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus, Message
from heliograph.client import AsyncClient
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from tests.end_to_end.conftest import CODE
from tests.patience import HANGS

EDGE, OTHER, ROUNDS = "edge-1", "edge-2", 5


class _Liar:
    """A device that reads everything on the broker, and publishes forgeries of what a worker or its agent says."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.forged = 0
        self._taken: set[str] = set()

    async def run(self) -> None:
        async with self._bus.subscribe("ack/#", "event/#", "edge/#") as heard:
            async for message in heard:
                await self._answer(message)

    async def _answer(self, message: Message) -> None:
        event = decode(message.body, message.topic)
        if event.source.endswith("/liar"):
            return
        kind, _, rest = message.topic.partition("/")
        if kind == "ack":
            worker, incarnation = rest.rpartition("/")[2], event.data["incarnation"]
            for address in (message.topic, topics.ACK.at(producer=worker), topics.WORKER_ACK.at(worker=worker)):
                for sequence in (event.data["sequence"] + 1, 10**9):
                    await self._say(topics.ACK, address, Ack(incarnation=incarnation, sequence=sequence))
            telemetry = topics.TELEMETRY.at(edge=EDGE, device=worker)
            once = incarnation not in self._taken
            self._taken.add(incarnation)
            for number in range(1, 50) if once else ():  # in the worker's place, with its incarnation
                source = f"{EDGE}/{worker}/{incarnation}"
                taken = Event(f"liar-{number}", source, topics.TELEMETRY.type, {"n": number}, "", telemetry, number)
                await self._bus.publish(telemetry, encode(taken), sure=False)
        elif topics.ASSIGNMENT.match(message.topic):
            assigned = topics.ASSIGNMENT.validate(event.data, message.topic)
            for number in (assigned.number, 10**9):
                ended = Assignment(number=number, task=assigned.task, edge=EDGE, ended=True)
                await self._say(topics.ASSIGNMENT, message.topic, ended)
            state = WorkerState(worker=assigned.task.worker, state="failed", detail="says the liar")
            await self._say(topics.WORKER, topics.WORKER.at(worker=assigned.task.worker), state)
        elif topics.MODEL_UPDATE.match(message.topic):  # signed by the worker; on another topic
            await self._bus.publish(topics.EVALUATION.at(job=event.data["job"], edge=EDGE), message.body, sure=False)
            self.forged += 1

    async def _say(self, topic: Any, address: str, payload: Any) -> None:
        event = Port(self._bus, World(), f"{EDGE}/agent/liar").event(topic, payload, address)
        await self._bus.publish(address, encode(event), sure=False)
        self.forged += 1


@asynccontextmanager
async def _lying(url: str) -> AsyncIterator[_Liar]:
    async with connect(url, name="liar") as bus:
        await bus.link.wait_up(HANGS)
        liar = _Liar(bus)
        running = asyncio.create_task(liar.run())
        yield liar
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running  # an error of the test's own device is not overlooked


@pytest.mark.long
async def test_a_device_that_speaks_as_a_worker_and_as_its_agent_costs_no_result(
    tmp_path: Path,
    mosquitto: Callable[..., Awaitable[Any]],
    regression: Callable[..., Path],
    task: Callable[..., dict[str, Any]],
) -> None:
    node = await mosquitto()
    datasets = {edge: {"data": regression(edge, seed=seed)} for seed, edge in enumerate((EDGE, OTHER))}
    async with (
        LocalCluster(tmp_path / "cluster", [EDGE, OTHER], edge_brokers={EDGE: node.url()}, datasets=datasets,
                     code=(CODE,)) as cluster,
        _lying(node.url()) as liar,
        AsyncClient(cluster.server, timeout=HANGS) as client,
    ):  # fmt: skip
        await client.models.create({"kind": "Model", "metadata": {"name": "line"}})
        await client.jobs.create(task("line", [EDGE, OTHER], rounds=ROUNDS, roundDeadlineSeconds=15))
        document: dict[str, Any] = {}
        async with asyncio.timeout(2 * HANGS):
            async for document in client.jobs.watch("line"):  # noqa: B007 the last one counts
                pass
        status = document["status"]
        assert liar.forged > ROUNDS
        assert status["phase"] == "Succeeded"
        assert [each["edges"] for each in status["rounds"]] == [[EDGE, OTHER]] * ROUNDS
        assert {each["reason"] for each in status["rounds"]} == {"complete"}
        async with asyncio.timeout(HANGS), client.bus.subscribe(topics.STATUS.filter(resource="edges")) as changes:
            while not (counts := await _counts(client))["refusedEvents"] or not counts.get("anomalousEvents"):
                await anext(changes)


async def _counts(client: AsyncClient) -> dict[str, int]:
    status: dict[str, int] = (await client.edges.get(EDGE))["status"]
    return status
