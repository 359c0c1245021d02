"""The coordinator: requests, reports, presence and closed rounds in; resources, desired documents and status out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar, cast

from heliograph.bus import topics
from heliograph.bus.connect import connect
from heliograph.bus.errors import Conflict, HeliographError, Refused
from heliograph.bus.keep import Background, keep_running
from heliograph.bus.nats import NatsBus
from heliograph.bus.payloads import Aggregation, LogRecord, Report
from heliograph.bus.port import Port
from heliograph.bus.resources import (
    ENDED,
    Algorithm,
    Dataset,
    Edge,
    FederatedTask,
    Metadata,
    Model,
    ModelVersion,
    Resource,
)
from heliograph.bus.resources.base import WeightsRef
from heliograph.bus.topics import DEFAULT_ROOT
from heliograph.bus.transport import Bus, KeyValue
from heliograph.bus.world import World
from heliograph.coordinator import federated
from heliograph.coordinator.catalog import algorithm_of, dataset_of, edge_of
from heliograph.coordinator.desired import DesiredWriter, datasets_of
from heliograph.coordinator.door import Door
from heliograph.coordinator.presence import Presence
from heliograph.coordinator.requests import Requests
from heliograph.coordinator.status import StatusBoard
from heliograph.coordinator.store import ResourceStore
from heliograph.coordinator.view import EdgeView, View

R = TypeVar("R", bound=Resource)
RESYNC = 3.0


@dataclass(frozen=True)
class CoordinatorConfig:
    """How a coordinator was started.

    Attributes:
        nats: URL of the cloud's NATS.
        system: URL with a user of the broker's system account, for presence.
        status: MQTT URL by which retained status is published (the embedded broker's MQTT listener).
        doors: external MQTT brokers: requests are taken there, and status is published.
    """

    nats: str
    system: str = ""
    status: str = ""
    doors: tuple[str, ...] = ()
    root: str = DEFAULT_ROOT


class Coordinator:
    """One coordinator process."""

    def __init__(self, config: CoordinatorConfig, world: World, out: Callable[[str], None] = print) -> None:
        self._world = world
        self._out = out
        self._source = f"cloud/coordinator/{world.new_id()}"
        self._bus = connect(config.nats, root=config.root, world=world, name="coordinator")
        self._port = Port(self._bus, world, self._source)
        self._system = connect(config.system, root=config.root, world=world, name="presence") if config.system else None
        status = [connect(config.status, root=config.root, world=world, name="status")] if config.status else []
        doors = [connect(url, root=config.root, world=world, name="door") for url in config.doors]
        self._mqtt: list[Bus] = [*status, *doors]
        self._board = StatusBoard(self._mqtt, world, self._source)
        self._reports: dict[str, Report] = {}
        self._online: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._background = Background(self._out)
        self._doors = doors

    async def run(self) -> None:
        """Until cancelled."""
        for bus in self._buses():
            await bus.open()
        try:
            await self._bus.link.wait_up()
            await self._prepare()
            async with asyncio.TaskGroup() as group:
                door = Door([self._bus, *self._doors], self._bus, self._world, self._requests.handle)
                for part in (
                    door.run, self._board.run, self._follow_reports, self._follow_aggregations,
                    self._follow_evaluations, self._resync, *self._presence_parts(),
                ):  # fmt: skip
                    group.create_task(keep_running(part, self._world, self._warn))
                await door.listening.wait()
                self._out("coordinator is ready")
        finally:
            await self._background.close()
            for bus in self._buses():
                await bus.close()

    def view(self) -> View:
        """What the decisions are made from."""
        names = sorted(self._reports.keys() | self._online.keys())
        return View(
            {name: EdgeView(name, self._is_online(name), self._reports.get(name)) for name in names},
            {model.name: model for model in self._store.all(Model)},
        )

    async def _prepare(self) -> None:
        await self._bus.prepare()
        await self._bus.blobs("models")
        self._rounds: KeyValue = await self._bus.kv("rounds")
        state = await self._bus.kv("resources")
        self._store = ResourceStore(state, self._world)
        for line in await self._store.load():
            self._warn(line)
        self._requests = Requests(self._store, self._world, self.view, self._lock, self._changed, self._removed)
        self._desired = DesiredWriter(self._port, await self._next_epoch())
        for kind in (FederatedTask, Model, Dataset, Algorithm):
            for resource in self._store.all(kind):
                self._board.show(resource)
        for edge in self._store.all(Edge):
            message = await self._bus.last(topics.REPORT.at(edge=edge.name))
            if message is not None:
                try:
                    self._reports[edge.name] = self._port.read(topics.REPORT, message).payload
                except Refused as error:
                    self._warn(str(error))

    async def _next_epoch(self) -> int:
        """Above every earlier coordinator's."""
        counter = await self._bus.kv("coordinator")
        while True:
            entry = await counter.get("epoch")
            epoch = int(entry.value) + 1 if entry is not None else 1
            try:
                await counter.put("epoch", str(epoch).encode(), entry.revision if entry is not None else 0)
            except Conflict:
                continue
            return epoch

    # what comes in

    async def _follow_reports(self) -> None:
        async with self._port.subscribe(topics.REPORT, lambda error: self._warn(str(error))) as received:
            async for each in received:
                edge = each.params["edge"]
                if each.payload.edge != edge:
                    self._warn(f"report on {each.message.topic}: expected edge {edge}, got {each.payload.edge}")
                    continue
                known = self._reports.get(edge)
                self._reports[edge] = each.payload
                if self._system is None:
                    self._online.setdefault(edge, self._world.timestamp())
                if known is None or _matters(known, each.payload):
                    await self._edge_changed(edge)

    async def _follow_aggregations(self) -> None:
        async with self._port.subscribe(topics.AGGREGATION, lambda error: self._warn(str(error))) as received:
            async for each in received:
                await self._closed(each.payload)

    async def _follow_evaluations(self) -> None:
        async with self._port.subscribe(topics.EVALUATION, lambda error: self._warn(str(error))) as received:
            async for each in received:
                evaluation = each.payload
                now = self._world.timestamp()
                await self._advance(evaluation.job, lambda task: federated.evaluate(task, evaluation, now))  # noqa: B023

    async def _closed(self, closed: Aggregation) -> None:
        view, now = self.view(), self._world.timestamp()
        await self._advance(closed.job, lambda task: federated.close(task, closed, view, now))

    def _presence_changed(self, edge: str, online: bool) -> None:
        self._out(f"edge {edge} is {'online' if online else 'offline'}")
        if online:
            self._online[edge] = self._world.timestamp()
        else:
            self._online.pop(edge, None)
        self._background.spawn(self._edge_changed(edge))

    async def _edge_changed(self, name: str) -> None:
        """A report or a change of presence: the edge's own status, and every task it concerns."""
        async with self._locks.setdefault("edges", asyncio.Lock()):
            await self._save_catalog(name)
        await self._look_at_tasks()

    async def _save_catalog(self, name: str) -> None:
        before = self._store.get(Edge, name)
        edge = edge_of(before or Edge(metadata=Metadata(name=name)), self._reports.get(name), self._is_online(name),
                       self._world.timestamp())  # fmt: skip
        if before is None or edge != before:
            await self._save(edge)
        for dataset in dataset_of(self._store, name, self._reports.get(name)):
            await self._save(dataset)
        for algorithm in algorithm_of(self._store, name, self._reports.get(name)):
            await self._save(algorithm)

    async def _resync(self) -> None:
        """What a lost message would have told: closed rounds, documents that could not be written."""
        while True:
            for task in self._store.all(FederatedTask):
                if task.status.phase == "Running":
                    await self._catch_up(task)
            await self._look_at_tasks()
            await self._world.sleep(RESYNC)

    async def _catch_up(self, task: FederatedTask) -> None:
        entry = await self._rounds.get(f"{task.metadata.uid}.{task.status.round}")
        if entry is not None:
            await self._closed(Aggregation.model_validate_json(entry.value))

    # what follows

    async def _look_at_tasks(self) -> None:
        for task in self._store.all(FederatedTask):
            if task.status.phase in ENDED:
                continue
            view, now = self.view(), self._world.timestamp()
            start = await self._last_update() if task.status.phase == "Pending" else 0

            def decide(task: FederatedTask, view: View = view, now: str = now, start: int = start) -> FederatedTask:
                return federated.observe(federated.begin(task, view, now, start + 1), view, now)

            await self._advance(task.name, decide)
        await self._write_desired()

    async def _last_update(self) -> int:
        stream = cast(NatsBus, self._bus)
        return await stream.last_sequence("UPDATES")

    async def _advance(self, name: str, decide: Callable[[FederatedTask], FederatedTask]) -> None:
        """One step of a task's state machine: decided, stored by compare-and-set, then told."""
        async with self._lock(FederatedTask.plural, name):
            task = self._store.get(FederatedTask, name)
            if task is None:
                return
            after = decide(task)
            ended = after.status.phase in ENDED and task.status.phase not in ENDED
            if ended:  # before anyone is told: who hears of the end finds the model
                await self._register_model(after)
            if after is not task:
                after = await self._store.put(after)
                self._board.show(after)
            # also where nothing changed: presence alone changes whom the aggregation worker waits for
            await self._write_desired()
            if ended:
                self._out(f"job {name} {after.status.phase.lower()}")

    def _lock(self, plural: str, name: str) -> asyncio.Lock:
        """Held while a resource is read, decided on and written."""
        return self._locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def _register_model(self, task: FederatedTask) -> None:
        """A finished task's result becomes the newest version of its model."""
        status = task.status
        if status.phase != "Succeeded" or status.model is None:
            return
        name = task.spec.aggregation_worker.model.name
        model = self._store.get(Model, name) or Model(metadata=Metadata(name=name))
        if any(each.job == task.metadata.uid for each in model.status.versions):
            return
        weights = await self._in_bucket(status.model)
        metrics = status.evaluation or (status.rounds[-1].metrics if status.rounds else {})
        version = ModelVersion(
            version=len(model.status.versions) + 1, weights=weights, job=task.metadata.uid, round=status.round,
            metrics=metrics, time=status.completion_time,
        )  # fmt: skip
        changed = model.status.model_copy(update={"versions": [*model.status.versions, version]})
        await self._save(model.model_copy(update={"status": changed}))

    async def _in_bucket(self, weights: WeightsRef) -> WeightsRef:
        """Small weights lie in the object store too once they are a model's version, so that anyone can fetch them."""
        if weights.inline is None:
            return weights
        with TemporaryDirectory() as directory:
            file = Path(directory) / weights.digest
            file.write_bytes(weights.inline)
            return await (await self._bus.blobs("models")).put(file, weights)

    async def _write_desired(self) -> None:
        view = self.view()
        wanted: dict[str, list[Any]] = {edge: [] for edge in view.edges}
        for task in self._store.all(FederatedTask):
            for edge, tasks in federated.desired_tasks(task, view).items():
                wanted.setdefault(edge, []).extend(tasks)
        datasets = self._store.all(Dataset)
        await self._desired.write({edge: (tasks, datasets_of(edge, datasets)) for edge, tasks in wanted.items()})

    async def _changed(self, resource: Resource) -> None:
        """A request created or changed a resource."""
        self._board.show(resource)
        await self._look_at_tasks()

    async def _removed(self, resource: Resource) -> None:
        self._board.clear(resource)
        if isinstance(resource, FederatedTask):
            for entry in await self._rounds.entries(f"{resource.metadata.uid}."):
                await self._rounds.delete(entry.key)
        await self._write_desired()

    async def _save(self, resource: R) -> None:
        if self._store.get(type(resource), resource.name) is None:
            resource = await self._store.create(resource)
        else:
            resource = await self._store.put(resource)
        self._board.show(resource)

    def _presence_parts(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        if self._system is None:
            self._warn("no system account given (--system): an edge counts as online once it has reported")
            return []
        presence = Presence(cast(NatsBus, self._system), self._world, self._presence_changed)
        return [presence.run]

    def _is_online(self, edge: str) -> bool:
        return edge in self._online

    def _buses(self) -> list[Bus]:
        return [self._bus, *([self._system] if self._system is not None else []), *self._mqtt]

    def _warn(self, line: str) -> None:
        self._out(f"warning: {line}")
        if self._bus.link.up:
            self._background.spawn(self._log("warning", line))

    async def _log(self, level: Literal["info", "warning"], line: str) -> None:
        record = LogRecord(level=level, component="coordinator", message=line, time=self._world.timestamp())
        try:
            await self._port.publish(topics.LOG, record, "cloud", form="json", component="coordinator")
        except HeliographError:
            return


def _matters(before: Report, after: Report) -> bool:
    """Whether a report says more than that the edge keeps up."""
    return before.model_copy(update={"observed": after.observed}) != after
