"""Federated jobs on a cluster in virtual time: ask for one, and wait for what its status says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused
from heliograph.requester import result_of
from heliograph.simulations.virtual.virtual_cluster import SCRIPT

Status = dict[str, Any]
HELD_OUT = "held-out"


async def ask(bus: Bus, plural: str, verb: str, document: dict[str, Any]) -> Any:
    """Return the result of a request; repeat it until a coordinator answers."""
    topic, body = REQUEST.at(resource=plural, verb=verb), json.dumps(document).encode()
    while True:
        try:
            return result_of((await bus.request(topic, body)).body)
        except Refused:
            raise
        except HeliographError:
            await asyncio.sleep(1)


async def create(bus: Bus, name: str, *, algorithm: str = "FedAvg", evaluated: bool = False, **spec: Any) -> None:
    """Create a job over all edges, and its model of the same name where there is none."""
    worker = {"name": "w", "workerSpec": {"trainScriptBootFile": SCRIPT}}
    aggregation = {"model": {"name": name}, "workerSpec": {"aggregationAlgorithm": algorithm}}
    evaluation = {"evaluationWorker": {"dataset": {"name": HELD_OUT}}} if evaluated else {}
    await ask(bus, "models", "create", {"kind": "Model", "metadata": {"name": name}})
    await ask(bus, "jobs", "create", {"kind": "FederatedTask", "metadata": {"name": name}, "spec": {
        "aggregationWorker": aggregation, "trainingWorkers": [worker], "participants": {"all": True},
        "roundDeadlineSeconds": 30, **evaluation, **spec,
    }})  # fmt: skip


async def until(bus: Bus, name: str, reached: Callable[[Status], bool]) -> Status:
    """Return the job's status once it is as wanted."""
    async with asyncio.timeout(1200):
        while True:
            status: Status = (await ask(bus, "jobs", "get", {"name": name}))["status"]
            if reached(status):
                return status
            await asyncio.sleep(0.1)


def ended(status: Status) -> bool:
    return status["phase"] not in ("Pending", "Running")
