"""One term: from the moment this coordinator leads until its lease is lost.

Requests, reports, presence and the features' messages come in; resources, desired documents and status go out. Each
term reads the stored state anew, since another coordinator may have changed it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar
from weakref import WeakValueDictionary

from heliograph.bus.contract import buckets, topics
from heliograph.bus.contract.garbage import Garbage
from heliograph.bus.contract.payloads import LogRecord
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Algorithm, Edge, Model, Resource
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.api.door import Door
from heliograph.coordinator.api.requests import Requests
from heliograph.coordinator.api.retained_sweep import RetainedSweep
from heliograph.coordinator.api.status_board import StatusBoard
from heliograph.coordinator.audit import Audit, AuditedRequests, Decision
from heliograph.coordinator.authorization.callers import Callers, Grants
from heliograph.coordinator.blobs.allowed_blobs import AllowedBlobs
from heliograph.coordinator.blobs.relay import BlobRelay
from heliograph.coordinator.blobs.upload_intake import UploadIntake
from heliograph.coordinator.cloud_format import migrate_format
from heliograph.coordinator.edges.desired import DesiredWriter
from heliograph.coordinator.edges.edges import Edges
from heliograph.coordinator.edges.following import EdgeFollower, wait_until_known
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.edges.wanted_documents import WantedDocuments
from heliograph.coordinator.feature import ControllerContext, InstalledFeatures, Part
from heliograph.coordinator.garbage.collector import Collector
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.store_watch import StoreWatch
from heliograph.coordinator.identity.issuer import Issuer
from heliograph.coordinator.kubernetes.api import Api
from heliograph.coordinator.kubernetes.cloud_id import cloud_id
from heliograph.coordinator.kubernetes.operator import OperatorSettings
from heliograph.coordinator.kubernetes.side import KubernetesSide
from heliograph.coordinator.leader_gathering import LeaderGathering
from heliograph.coordinator.leadership import is_newest_epoch, next_epoch
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.reconcile_scheduler import ReconcileScheduler
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.names import CLOUD
from heliograph.core.signing import Signer
from heliograph.core.tasks import Background, keep_running, retry_until_reachable, wait_for
from heliograph.core.text import encodable
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)
PREPARE_TIMEOUT = 60.0
"""Seconds until a coordinator that is not ready gives the lease back."""
MAX_LINE = 65536
"""Characters of a line of the log, at most."""
RESYNC = 3.0
"""Seconds between two resyncs."""
RESYNC_CALM = 60.0
"""Seconds between two resyncs while no feature is busy."""


@dataclass(frozen=True)
class Connections:
    """The coordinator's connections.

    Attributes:
        cloud: the cloud's NATS.
        requests: another connection to it, for the door alone: a lease that waits behind a flood of requests is lost.
        system: the broker's system account, for presence.
        status: MQTT connections of the embedded broker, for retained status.
        kept: NATS connections to where the embedded broker keeps what MQTT clients send: of an account of their own, or
            ``cloud``.
        doors: external MQTT brokers, for requests and retained status.
    """

    cloud: Bus
    requests: Bus
    system: Bus | None
    status: list[Bus]
    kept: list[Bus]
    doors: list[Bus]

    def all(self) -> list[Bus]:
        system = [self.system] if self.system is not None else []
        return [*dict.fromkeys((self.cloud, self.requests, *system, *self.status, *self.kept, *self.doors))]


class Term:
    """The parts of a coordinator that leads, wired to each other."""

    def __init__(
        self, connections: Connections, world: World, source: str, quotas: Quotas, lives: Lives,
        signer: Signer | None, document_signer: Ed25519Signer | None, issuer: Issuer | None, grants: Grants,
        kubernetes: tuple[Api, OperatorSettings] | None, out: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._kubernetes = kubernetes
        self._side: KubernetesSide | None = None
        self._connections = connections
        self._grants = grants
        self._issuer = issuer
        self._quotas = quotas
        self._lives = lives
        self._signer = signer
        self._document_signer = document_signer
        self._world = world
        self._out = out
        self._port = Port(connections.cloud, world, source)
        self._board = StatusBoard([*connections.status, *connections.doors], world, source, self._warn)
        self._background = Background(out)
        self._failures = Failures(self._warn)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock lives as long as somebody has or awaits it."""
        self._view: tuple[object, View] | None = None
        """The newest view, and the state that it shows."""
        self._deciding = asyncio.Lock()
        """Guards the decision which desired documents to write."""
        self._resync_due = asyncio.Event()
        """Set when a request has changed something, or a document could not be written."""

    async def run(self) -> None:
        """Run all parts until cancelled: the lease is lost then. Raise HeliographError where this coordinator is not
        ready within ``PREPARE_TIMEOUT``: another one may be."""
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT) as limit:
                await self._lead(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            raise HeliographError(f"not ready to lead within {PREPARE_TIMEOUT:g} s") from None
        finally:
            await self._background.close()

    async def _lead(self, limit: asyncio.Timeout) -> None:
        await retry_until_reachable(self._prepare, self._world, self._out)
        async with asyncio.TaskGroup() as group:

            def start(*parts: Part) -> None:
                for part in parts:
                    group.create_task(keep_running(part, self._world, self._warn))

            start(self._board.run, self._follower.follow, self._edges.run, self._reconciling.run)
            for feature in self._features:
                start(*feature.parts())
            await self._follower.reports_read.wait()
            for feature in self._features:
                with self._failures.contain(f"the start of {feature.kind.plural}"):
                    await feature.begin()
            if (presence := self._follower.presence()) is not None:
                start(presence.run)
                await wait_until_known(presence)
            door = Door([self._connections.requests, *self._connections.doors], self._port.bus, self._world,
                        self._requests.handle, self._failures, self._quotas, Callers(self._store, self._grants),
                        self._warn)  # fmt: skip
            # on the door's connection: a flood of asks must not delay the lease
            blobs = Port(self._connections.requests, self._world, self._port.source)
            relay = BlobRelay(blobs, self._allowed.may_fetch, self._failures)
            uploads = UploadIntake(blobs, self._knows_edge, self._background, self._failures)
            gathering = LeaderGathering([self._connections.cloud, *self._connections.kept], self._connections.system,
                                        self._world)  # fmt: skip
            start(self._resync, door.run, self._collector.run, self._store_watch.run, relay.run, uploads.run,
                  gathering.run)  # fmt: skip
            if self._side is not None:
                start(*self._side.parts())
            for bus in self._connections.kept:
                start(RetainedSweep(bus, self._world, self._failures).run)
            await door.listening.wait()
            limit.reschedule(None)
            await self._audit.record(Decision(self._port.source, "lead"))
            self._out("coordinator is ready")
            self._background.spawn(self._build_validators())

    def view(self) -> View:
        """Return the edges and models as they are known now, for decisions: the same object until one changes."""
        state = (self._edges.changes, self._store.changes(Model), self._store.changes(Algorithm))
        if self._view is None or self._view[0] != state:
            models = {model.name: model for model in self._store.all(Model)}
            packages = {each.name: each for each in self._store.all(Algorithm) if each.spec.package is not None}
            self._view = state, View(self._edges.views(), models, packages)
        return self._view[1]

    async def _build_validators(self) -> None:
        """Build the validator of each kind before its first document comes: that takes up to a tenth of a second."""
        for kind in declared().kinds.values():
            await self._world.sleep(0)
            kind.model_rebuild()

    async def _prepare(self) -> None:
        """Read the stored state, and make the parts that work on it."""
        bus = self._port.bus
        own = await bus.kv(buckets.COORDINATOR)
        await migrate_format(own)
        await bus.prepare()
        for bucket in (buckets.MODELS, buckets.DATASETS, buckets.SHARDS, upload_bucket(CLOUD)):  # workers make none
            await bus.blobs(bucket)
        self._store = ResourceStore(
            await bus.kv(buckets.RESOURCES), self._world, self._board.show, self._board.clear
        )
        for line in await self._store.load():
            self._warn(line)
        issuer = self._issuer
        if issuer is not None:
            await issuer.authority()  # it knows how edges have enrolled
        self._edges = Edges(self._store, self._world, self._save, self._reconcile_soon, self._background,
                            self._failures, issuer.origin if issuer is not None else lambda edge: None,
                            lambda edge: self._desired.is_ahead(edge))  # fmt: skip
        self._follower = EdgeFollower(self._port, self._connections.system, self._store, self._edges, self._out,
                                      self._warn, self._failures)  # fmt: skip
        self._reconciling = ReconcileScheduler(self._reconcile, self._world, lambda: len(self._edges))
        versions = ModelVersions(bus, self._store, self._lock, self._save, self._signer)
        self._allowed = AllowedBlobs(lambda edge: self._desired.newest(edge))
        context = ControllerContext(
            self._port, self._store, versions, self._background, self.view, self._lock, self._board.show,
            self._write_desired, self._out, self._warn, self._failures, self._collect, self._connections.doors,
            lambda: self._features, self._allowed.let_fetch, self._remove, self._edges.offline, self._issuer,
            self._grants.unnamed,
        )  # fmt: skip
        self._features = InstalledFeatures(context)
        self._collector = Collector(bus, self._store, self._features, self._lives, self._world, self._failures,
                                    self._out)  # fmt: skip
        self._store_watch = StoreWatch(bus, self._connections.system, self._world, self._edges.set_full, self._warn,
                                       self._failures)  # fmt: skip
        epoch = await next_epoch(own)
        self._audit = Audit(self._port, epoch, self._document_signer, self._failures)
        requests = Requests(self._store, self._features, self._lock, self._changed, self._removed, self._world,
                            self._quotas, epoch, self._is_managing)  # fmt: skip
        self._requests = AuditedRequests(requests.handle, self._audit)
        self._view = None
        self._wanted = WantedDocuments(self._features, self._store, self._world, self._failures)
        self._desired = DesiredWriter(self._port, epoch, self._edges.version, self._warn, self._document_signer,
                                      self._edges.observed, lambda: is_newest_epoch(own, epoch))  # fmt: skip
        if self._kubernetes is not None:
            self._side = KubernetesSide(
                *self._kubernetes, await cloud_id(own, self._world), self._store, self._features, self._requests.handle,
                self._desired.newest, self._world, self._failures, self._warn,
            )  # fmt: skip
            self._board.listen(self._side.resource_changed)
        for kind in declared().kinds.values():
            for resource in self._store.all(kind):
                self._board.show(resource)
        for feature in self._features:
            await feature.prepare()

    async def _resync(self) -> None:
        """Catch up with lost messages again and again: the features', presence, and documents that could not be
        written."""
        self._edges.write_all_soon()
        while True:
            self._resync_due.clear()
            for feature in self._features:
                with self._failures.contain(f"catching up with {feature.kind.plural}"):
                    await feature.catch_up()
            self._edges.recheck_presence()
            await self._desired.restore(self._edges.online())
            await self._reconciling.request_and_wait()
            if self._features.busy or self._desired.unpublished:
                await self._world.sleep(RESYNC)
            else:
                await wait_for(self._resync_due, RESYNC_CALM)

    async def _reconcile(self) -> None:
        if not self._follower.reports_read.is_set():
            return  # the resync asks for the first one
        for feature in self._features:
            with self._failures.contain(f"reconciling {feature.kind.plural}"):
                await feature.reconcile()
        # always: a change of presence alone changes the edges that an aggregation worker waits for
        await self._write_desired()

    def _is_managing(self, resource: Resource) -> bool:
        return self._side is not None and self._side.manages(resource)

    def _reconcile_soon(self) -> None:
        if self._follower.reports_read.is_set():
            self._reconciling.request()

    async def _write_desired(self) -> None:
        if not self._follower.reports_read.is_set():
            return  # an edge that is not known yet would lose its tasks; the first reconcile writes the documents
        async with self._deciding:  # a decision takes breaks, and an earlier one must not replace a later one
            fresh = await self._desired.decide(*await self._wanted.of(self.view()))
        await self._desired.publish(fresh)
        if self._side is not None and fresh:
            self._side.desired_changed()
        if self._desired.unpublished:
            self._resync_due.set()  # retry before RESYNC_CALM has passed

    async def _changed(self, resource: Resource) -> None:
        """Show a resource that a request created or changed, and act on it."""
        self._board.show(resource)
        self._resync_due.set()
        await self._reconciling.request_and_wait()

    async def _remove(self, resource: Resource) -> None:
        """Delete a resource and what is stored for it."""
        if isinstance(resource, Edge):  # else a write of its presence that is under way would make it anew
            await self._edges.forget(resource.name)
        await self._store.delete(resource)
        await self._removed(resource)

    async def _removed(self, resource: Resource) -> None:
        self._board.clear(resource)
        if isinstance(resource, Edge):
            await self._forget_edge(resource.name)
        await self._features.of(resource.plural).removed(resource)
        await self._reconciling.request_and_wait()  # one pass serves many deletions

    async def _collect(self, dry_run: bool) -> Garbage:
        return await self._collector.collect(dry_run)

    async def _forget_edge(self, edge: str) -> None:
        """Delete what is stored about an edge: its report and offers, its desired document and its uploads."""
        bus = self._port.bus
        await bus.forget(topics.REPORT.at(edge=edge))
        await bus.forget(topics.OFFERS.at(edge=edge))
        async with self._deciding:  # a decision under way knows the edge, and would write its document again
            await self._edges.forget(edge)
            self._desired.forget(edge)
            self._allowed.forget(edge)
        await bus.forget(topics.TASK.at(edge=edge))
        await bus.delete_blobs(upload_bucket(edge))

    def _knows_edge(self, edge: str) -> bool:
        return self._store.get(Edge, edge) is not None

    async def _save(self, resource: R) -> None:
        if self._store.get(type(resource), resource.name) is None:
            resource = await self._store.create(resource)
        else:
            resource = await self._store.put(resource)
        self._board.show(resource)

    def _lock(self, plural: str, name: str) -> asyncio.Lock:
        """Return the lock that guards a resource while it is read, decided on and written."""
        key = f"{plural}/{name}"
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def _warn(self, line: str) -> None:
        self._out(f"warning: {line}")
        if self._port.bus.link.up:
            self._background.spawn(self._log("warning", line))

    async def _log(self, level: Literal["info", "warning"], line: str) -> None:
        record = LogRecord(level=level, component="coordinator", message=encodable(line)[:MAX_LINE],
                           time=self._world.timestamp())  # fmt: skip
        try:
            await self._port.publish(topics.LOG, record, CLOUD, form="json", edge=CLOUD, component="coordinator")
        except HeliographError:
            return
