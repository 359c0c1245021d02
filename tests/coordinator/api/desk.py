"""A store in memory with its requests, for tests of what each request does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import Resource
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus, KeyValue
from heliograph.coordinator.api.request import Answer, Request
from heliograph.coordinator.api.requests import Requests
from heliograph.coordinator.authorization.rights import EVERYTHING, Rights
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, InstalledFeatures
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World

MODEL = {"kind": "Model", "metadata": {"name": "one"}, "spec": {"description": "first"}}
TASK: dict[str, Any] = {
    "kind": "FederatedTask",
    "metadata": {"name": "one"},
    "spec": {"aggregationWorker": {"model": {"name": "one"}}, "trainingWorkers": [{"name": "w"}]},
}


class Desk:
    """A store in memory with its requests, a clock that the test sets, and a record of changes."""

    def __init__(
        self, bus: Bus, bucket: KeyValue, world: World, clock: dict[str, float], quotas: Quotas
    ) -> None:
        store = ResourceStore(bucket, world)
        self.store = store
        self.bucket = bucket
        self.clock = clock
        self.managing = False
        self.noted: list[str] = []
        self.locks: dict[str, asyncio.Lock] = {}
        context = ControllerContext(
            Port(bus, world, "cloud/coordinator/1"), store, ModelVersions(bus, store, self.lock, self._changed),
            Background(print), View, self.lock, lambda resource: None, self._written, print, print, Failures(print),
            pytest.fail,
        )  # fmt: skip
        self._requests = Requests(store, InstalledFeatures(context), self.lock, self._changed, self._removed, world,
                                  quotas, epoch=3, managing=lambda resource: self.managing)  # fmt: skip

    async def ask(
        self, resource: str, verb: str, document: dict[str, Any], caller: str = "someone", rights: Rights = EVERYTHING
    ) -> Any:
        return await self.ask_raw(resource, verb, dict(document), caller, rights)

    async def ask_raw(
        self, resource: str, verb: str, body: Any, caller: str = "someone", rights: Rights = EVERYTHING
    ) -> Any:
        request = Request(resource, verb, body, f"request/{resource}/{verb}", caller, rights)
        return (await self.answer(request)).get("result")

    async def answer(self, request: Request) -> dict[str, Any]:
        """Return the whole reply."""
        found = await self._requests.handle(request)
        reply: dict[str, Any] = json.loads(found.encoded()) if isinstance(found, Answer) else {"result": found}
        return reply

    async def page(self, verb: str, **body: Any) -> dict[str, Any]:
        return await self.answer(Request("models", verb, body, f"request/models/{verb}", rights=EVERYTHING))

    async def list_models(self, spend: Callable[[int], None]) -> Any:
        request = Request("models", "list", {}, "request/models/list", rights=EVERYTHING, spend=spend)
        return await self._requests.handle(request)

    def lock(self, plural: str, name: str) -> asyncio.Lock:
        return self.locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def _written(self) -> None:
        """Write nothing: there is no edge."""

    async def _changed(self, resource: Resource) -> None:
        self.noted.append(f"changed {resource.name}")

    async def _removed(self, resource: Resource) -> None:
        self.noted.append(f"removed {resource.name}")


async def make_desk(quotas: Quotas) -> Desk:
    clock = {"now": 1000.0}
    world = World(now=lambda: clock["now"])
    bus = connect(f"memory://requests-{world.new_id()}", world=world)
    await bus.open()
    return Desk(bus, await bus.kv("resources"), world, clock, quotas)
