"""A coordinator with an operator, in this process: a broker in memory, and the API server of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from heliograph.bus.contract.resources import Edge, FederatedTask, JointInferenceService, Model
from heliograph.bus.contract.resources.base import API_VERSION
from heliograph.client import AsyncClient
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.coordinator.kubernetes.api import Api, Kind, Object
from heliograph.coordinator.kubernetes.documents import custom_kind
from heliograph.coordinator.kubernetes.errors import NotFound
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from tests.patience import HANGS

NUMBERS = count(1)
MODEL, JOB = custom_kind(Model), custom_kind(FederatedTask)
EDGE, SERVICE = custom_kind(Edge), custom_kind(JointInferenceService)


class Printed:
    """The lines that a coordinator prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._more.set()

    async def until(self, words: str, number: int = 1) -> str:
        """Return the first line with some words, once there are so many."""
        async with asyncio.timeout(HANGS):
            while len(found := [line for line in self.lines if words in line]) < number:
                self._more.clear()
                await self._more.wait()
        return found[0]


@dataclass
class Running:
    """What a test has in hand.

    Attributes:
        api: the API server, as ``kubectl`` would use it.
        client: a client by topics, with an operator's rights.
        printed: what the coordinator has printed.
    """

    api: Api
    client: AsyncClient
    url: str
    printed: Printed = field(default_factory=Printed)

    async def until(self, kind: Kind, name: str, holds: Callable[[Object], bool], namespace: str = "default") -> Object:
        """Return a custom resource once ``holds(object)``."""
        async with asyncio.timeout(HANGS):
            while True:
                found, version = await self.api.list(kind, namespace)
                for each in found:
                    if each["metadata"]["name"] == name and holds(each):
                        return each
                async for change in self.api.watch(kind, version, namespace):
                    given = change.object
                    if given["metadata"].get("name") == name and change.type != "DELETED" and holds(given):
                        return given

    async def until_gone(self, kind: Kind, name: str, namespace: str = "default") -> None:
        async with asyncio.timeout(HANGS):
            while True:
                found, version = await self.api.list(kind, namespace)
                if name not in [each["metadata"]["name"] for each in found]:
                    return
                async for change in self.api.watch(kind, version, namespace):
                    if change.type == "DELETED" and change.object["metadata"]["name"] == name:
                        break

    async def accepted(self, kind: Kind, name: str, namespace: str = "default") -> Object:
        return await self.until(kind, name, lambda each: said(each, "Accepted")[0] == "True", namespace)

    async def refused(self, kind: Kind, name: str, namespace: str = "default") -> tuple[str, str]:
        """Return reason and message of a refusal, once there is one of the newest generation."""
        def told(each: Object) -> bool:
            conditions = each.get("status", {}).get("conditions", ())
            observed = [one["observedGeneration"] for one in conditions]
            return said(each, "Accepted")[0] == "False" and observed == [each["metadata"]["generation"]]

        found = await self.until(kind, name, told, namespace)
        return said(found, "Accepted")[1:]

    async def resource(self, resources: str, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a resource once it is there and ``holds``."""
        async with asyncio.timeout(HANGS):
            async for found in self.client.resources(resources).watch(name):
                if holds(found):
                    return found
        raise AssertionError

    async def missing(self, kind: Kind, name: str, namespace: str = "default") -> bool:
        try:
            await self.api.get(kind, namespace, name)
        except NotFound:
            return True
        return False


def said(custom: Object, condition: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; empty texts where there is none."""
    for each in custom.get("status", {}).get("conditions", ()):
        if each["type"] == condition:
            return each["status"], each["reason"], each["message"]
    return "", "", ""


def custom(name: str, kind: str, spec: dict[str, Any], namespace: str = "default", **metadata: Any) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind,
            "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}  # fmt: skip


def job(name: str, **spec: Any) -> Object:
    """Return a job that waits for an edge which never comes."""
    worker = {"name": "w", "nodeName": "nobody", "workerSpec": {"trainScriptBootFile": "train.py"}}
    given = {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": [worker], **spec}
    return custom(name, "FederatedTask", given)


@asynccontextmanager
async def coordinating(
    url: str, printed: Printed, settings: OperatorSettings | None = None, name: str = "coordinator"
) -> AsyncIterator[None]:
    """Run a coordinator with an operator until the context ends; it leads when the context begins."""
    config = CoordinatorConfig(nats=url, status=url, name=name, kubernetes=settings or OperatorSettings())
    task = asyncio.create_task(Coordinator(config, World(), printed).run())
    ready = asyncio.create_task(printed.until("coordinator is ready"))
    try:
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task.exception()
        yield
    finally:
        await cancel_and_wait(task, ready)


@asynccontextmanager
async def operating(api: Api, settings: OperatorSettings | None = None) -> AsyncIterator[Running]:
    """Run a coordinator with an operator on a broker of its own, and connect a client."""
    url, printed = f"memory://operator-{next(NUMBERS)}", Printed()
    async with coordinating(url, printed, settings), AsyncClient(url, leader_timeout=HANGS) as client:
        yield Running(api, client, url, printed)
