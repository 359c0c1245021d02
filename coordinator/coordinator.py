"""The coordinator: requests, reports, presence and closed rounds in; resources, desired documents and status out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import LogRecord, Report, Task
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import (
    Dataset,
    DatasetSpec,
    Edge,
    FederatedTask,
    JointInferenceService,
    Model,
    Resource,
)
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Bus
from heliograph.coordinator.api.door import Door
from heliograph.coordinator.api.requests import Requests
from heliograph.coordinator.api.status_board import StatusBoard
from heliograph.coordinator.edges.desired import DesiredWriter, datasets_of
from heliograph.coordinator.edges.edges import Edges
from heliograph.coordinator.edges.presence import presence_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.federated.controller import Jobs
from heliograph.coordinator.features.federated.results import Results
from heliograph.coordinator.features.inference.controller import Services
from heliograph.coordinator.features.inference.statistics import Statistics
from heliograph.coordinator.leadership import Lease
from heliograph.coordinator.reconcile_scheduler import ReconcileScheduler
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, HeliographError, Refused
from heliograph.core.tasks import Background, keep_running, retry_until_reachable, wait_for
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)
RESYNC = 3.0
RESYNC_CALM = 60.0
"""The same while no job waits or runs."""
PRESENCE_KNOWN_WITHIN = 2.0


@dataclass(frozen=True)
class CoordinatorConfig:
    """How a coordinator was started.

    Attributes:
        nats: URL of the cloud's NATS.
        system: URL with a user of the broker's system account, for presence.
        status: MQTT URL by which retained status is published (the embedded broker's MQTT listener).
        doors: external MQTT brokers: requests are taken there, and status is published.
        name: by which people tell it from another that stands by.
        patience: by how many times its lease is longer than usual; the same for all of them.
    """

    nats: str
    system: str = ""
    status: str = ""
    doors: tuple[str, ...] = ()
    root: str = DEFAULT_ROOT
    name: str = "coordinator"
    patience: float = 1.0


class Coordinator:
    """One coordinator process. It stands by while another leads; what it knows it reads anew each time it leads."""

    def __init__(self, config: CoordinatorConfig, world: World, out: Callable[[str], None] = print) -> None:
        self._config = config
        self._world = world
        self._out = out
        self._source = f"cloud/coordinator/{world.new_id()}"
        self._bus = connect(config.nats, root=config.root, world=world, name="coordinator")
        self._port = Port(self._bus, world, self._source)
        self._system = connect(config.system, root=config.root, world=world, name="presence") if config.system else None
        status = [connect(config.status, root=config.root, world=world, name="status")] if config.status else []
        doors = [connect(url, root=config.root, world=world, name="door") for url in config.doors]
        self._mqtt: list[Bus] = [*status, *doors]
        self._name = config.name
        self._doors = doors
        self._begin()

    def _begin(self) -> None:
        """Nothing is known yet: what a coordinator knew when it led before may have changed since."""
        self._board = StatusBoard(self._mqtt, self._world, self._source)
        self._reports_read = asyncio.Event()
        self._stirred = asyncio.Event()
        """Set when a request has changed something, or a document could not be written."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._background = Background(self._out)

    async def run(self) -> None:
        """Until cancelled."""
        for bus in self._buses():
            await bus.open()
        try:
            await self._bus.link.wait_up()
            held = await retry_until_reachable(lambda: self._bus.kv("coordinator"), self._world, self._out)
            lease = Lease(held, self._world, self._name, self._source.rpartition("/")[2], self._stands_by, self._out,
                          self._config.patience)  # fmt: skip
            while True:
                await lease.lead(self._lead)
                self._out("warning: the lease was not renewed in time; another coordinator may lead now")
        finally:
            for bus in self._buses():
                await bus.close()

    def _stands_by(self, leader: str) -> None:
        self._out(f"coordinator stands by; {leader} leads")

    async def _lead(self) -> None:
        """Until the lease is lost."""
        self._begin()
        try:
            await retry_until_reachable(self._prepare, self._world, self._out)
            async with asyncio.TaskGroup() as group:
                door = Door([self._bus, *self._doors], self._bus, self._world, self._requests.handle)

                def start(*parts: Callable[[], Coroutine[Any, Any, None]]) -> None:
                    for part in parts:
                        group.create_task(keep_running(part, self._world, self._warn))

                start(self._board.run, self._follow_reports, self._statistics.follow)
                start(self._edges.run, self._looks.run)
                start(self._jobs.follow_aggregations, self._jobs.follow_evaluations)
                await self._reports_read.wait()
                await self._services.begin()
                await self._follow_presence(start)
                start(self._resync, self._services.run, door.run)
                await door.listening.wait()
                self._out("coordinator is ready")
        finally:
            await self._background.close()

    def view(self) -> View:
        """What the decisions are made from."""
        return View(self._edges.views(), {model.name: model for model in self._store.all(Model)})

    async def _prepare(self) -> None:
        await self._bus.prepare()
        await self._bus.blobs("models")
        rounds = await self._bus.kv("rounds")
        state = await self._bus.kv("resources")
        self._store = ResourceStore(state, self._world, self._board.show)
        for line in await self._store.load():
            self._warn(line)
        self._edges = Edges(self._store, self._world, self._save, self._looks_due, self._background)
        self._looks = ReconcileScheduler(self._look, self._world, lambda: len(self._edges))
        shared = ControllerContext(
            self._port, self._store, self.view, self._lock, self._board.show, self._write_desired, self._out, self._warn
        )
        results = Results(self._bus, self._store, rounds, self._lock, self._save)
        self._jobs = Jobs(shared, rounds, results, self._background)
        self._statistics = Statistics(shared, await self._bus.kv("inference"))
        self._services = Services(shared, self._statistics, results.in_bucket)
        self._requests = Requests(self._store, self._world, self.view, self._lock, self._changed, self._removed)
        self._desired = DesiredWriter(self._port, await self._next_epoch())
        for kind in declared().kinds.values():
            for resource in self._store.all(kind):
                self._board.show(resource)
        await self._jobs.prepare()
        await self._statistics.load()

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
        """Every edge's newest report, then each that comes: also of edges that appeared while nobody led."""
        newest = await self._bus.last_sequence("REPORTS")
        if not newest:
            self._reports_read.set()
        async with self._bus.consume(topics.REPORT.filter(), start=1) as messages:
            async for message in messages:
                try:
                    self._reported(self._port.read(topics.REPORT, message))
                except Refused as error:
                    self._warn(str(error))
                if message.sequence >= newest:
                    self._reports_read.set()

    def _reported(self, received: Received[Report]) -> None:
        edge, report = received.params["edge"], received.payload
        if report.edge != edge:
            self._warn(f"report on {received.message.topic}: expected edge {edge}, got {report.edge}")
            return
        if self._system is None:
            self._edges.assume_online(edge)
        self._edges.reported(edge, report)

    def _presence_changed(self, edge: str, online: bool) -> None:
        self._out(f"edge {edge} is {'online' if online else 'offline'}")
        self._edges.connection(edge, online)

    async def _resync(self) -> None:
        """What a lost message would have told: closed rounds, presence, documents that could not be written."""
        self._edges.look_at_all()
        while True:
            self._stirred.clear()
            await self._jobs.catch_up()
            self._edges.look_again()
            await self._looks.wait()
            calm = self._jobs.all_ended and not self._desired.behind
            if calm:
                await wait_for(self._stirred, RESYNC_CALM)
            else:
                await self._world.sleep(RESYNC)

    # what follows

    async def _look(self) -> None:
        """What is new of the edges, for whatever runs on them."""
        if not self._reports_read.is_set():
            return  # the first look is the resync's
        await self._jobs.look()
        await self._services.look()
        # also where nothing changed: presence alone changes whom an aggregation worker waits for
        await self._write_desired()

    def _lock(self, plural: str, name: str) -> asyncio.Lock:
        """Held while a resource is read, decided on and written."""
        return self._locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    def _looks_due(self) -> None:
        """Called before the first look exists, too: that one sees everything."""
        if self._reports_read.is_set():
            self._looks.ask()

    async def _write_desired(self) -> None:
        if not self._reports_read.is_set():
            return  # of edges that are not known yet it would take what they run; the first look writes it
        view = self.view()
        idle: list[Task] = []
        wanted = dict.fromkeys(view.edges, idle)
        for found in (*self._jobs.desired(view), *self._services.desired(view)):
            for edge, tasks in found.items():  # most are one job's alone: its list is taken as it is
                wanted[edge] = [*before, *tasks] if (before := wanted.get(edge)) else tasks
        datasets = [each for each in self._store.all(Dataset) if each.spec.url is not None]
        told = {edge: datasets_of(edge, datasets) for edge in wanted} if datasets else {}
        none: dict[str, DatasetSpec] = {}
        await self._desired.write({edge: (tasks, told.get(edge, none)) for edge, tasks in wanted.items()})
        if self._desired.behind:
            self._stirred.set()  # not only after a minute of calm

    async def _changed(self, resource: Resource) -> None:
        """A request created or changed a resource."""
        self._board.show(resource)
        self._stirred.set()
        await self._looks.wait()

    async def _removed(self, resource: Resource) -> None:
        self._board.clear(resource)
        if isinstance(resource, FederatedTask):
            await self._jobs.removed(resource)
        elif isinstance(resource, JointInferenceService):
            await self._services.removed(resource)
        await self._write_desired()

    async def _save(self, resource: R) -> None:
        if self._store.get(type(resource), resource.name) is None:
            resource = await self._store.create(resource)
        else:
            resource = await self._store.put(resource)
        self._board.show(resource)

    async def _follow_presence(self, start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]) -> None:
        """Returns once it is known who is connected: a first decision without it would wait for nobody."""
        if self._system is None:
            self._warn("no system account given (--system): an edge counts as online once it has reported")
            return
        before = [edge.name for edge in self._store.all(Edge) if edge.status.online]
        self._edges.assume_online(*before)
        presence = presence_of(self._system, self._world, self._presence_changed, before)
        start(presence.run)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PRESENCE_KNOWN_WITHIN):
                await presence.known.wait()

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
