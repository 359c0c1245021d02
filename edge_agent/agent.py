"""The edge agent: keeps the node at its desired state, with the link to the cloud or without it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from heliograph import __version__
from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.connect import connect
from heliograph.bus.contract import payloads, topics
from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import NodeCapacity, Report, WorkerReport
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import Topic
from heliograph.bus.link_watch import LinkWatch
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core import ed25519
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.names import require_label
from heliograph.core.tasks import Background, Flag, keep_running
from heliograph.core.text import never_raising
from heliograph.core.world import World
from heliograph.edge_agent.admission import UNKNOWN, Capacity
from heliograph.edge_agent.agent_config import AgentConfig, packages_directory
from heliograph.edge_agent.claim import NameClaim
from heliograph.edge_agent.code_digest import code_digest_of
from heliograph.edge_agent.dataset_contents import DatasetContents
from heliograph.edge_agent.datasets.known_files import KnownFiles
from heliograph.edge_agent.desired_document import DesiredDocument
from heliograph.edge_agent.device_bridge import DeviceBridge
from heliograph.edge_agent.devices.mapping import DeviceMapping
from heliograph.edge_agent.devices.node_devices import NodeDevices
from heliograph.edge_agent.fault_counts import FaultCounts, Faults
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.gateway import Gateway, launched
from heliograph.edge_agent.held_uploads import HeldUploads
from heliograph.edge_agent.inventory import Inventory, OwnDatasets
from heliograph.edge_agent.journal import Journal, KeptEvent
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.labelling import EdgeLabelling
from heliograph.edge_agent.launcher import BUS, Launcher
from heliograph.edge_agent.login_renewal import LoginRenewal
from heliograph.edge_agent.model_prefetcher import ModelPrefetcher
from heliograph.edge_agent.model_store import ModelStore
from heliograph.edge_agent.model_trust import MAX_REASON, ModelTrust
from heliograph.edge_agent.node_log import NodeLog
from heliograph.edge_agent.node_loops import NodeLoops
from heliograph.edge_agent.node_recordings import NodeRecordings
from heliograph.edge_agent.node_room import NodeRoom
from heliograph.edge_agent.node_state import NodeWatch
from heliograph.edge_agent.offload_relay import OffloadRelay
from heliograph.edge_agent.package_allowance import AllowedPackages
from heliograph.edge_agent.package_store import PackageStore
from heliograph.edge_agent.pod_support import PodSupport
from heliograph.edge_agent.producers import ProducerWatch
from heliograph.edge_agent.reconciler import Reconciler
from heliograph.edge_agent.reporter import Reporter
from heliograph.edge_agent.served_projects import ServedProjects
from heliograph.edge_agent.supervisor import Supervisor
from heliograph.edge_agent.task_code import TaskCode
from heliograph.edge_agent.unserved_responder import UnservedResponder
from heliograph.edge_agent.upload_sender import UploadSender
from heliograph.edge_agent.uploads import Uploads
from heliograph.edge_agent.worker_reports import refusals, worker_reports

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask
    from heliograph.edge_agent.edge_loops import EdgeLoops
    from heliograph.edge_agent.recording.recorder import Recorder


class Agent:
    """One node's agent.

    Args:
        launcher: starts its workers.
        lock: the lock of its state directory, see ``state_lock``; without one the agent takes it.
    """

    def __init__(
        self, config: AgentConfig, launcher: Launcher, world: World, out: Callable[[str], None] = print,
        lock: Any = None,
    ) -> None:  # fmt: skip
        self.config = config
        self._edge = require_label(config.name, "name")
        self._world = world
        self._out = out = never_raising(out)
        self._lock = lock if lock is not None else world.lock_directory(config.state)
        self._background = Background(self._out)
        source = f"{self._edge}/agent/{world.new_id()}"
        self._cloud = Port(
            connect(
                config.cloud, root=config.root, world=world, name=f"agent-{self._edge}", inbox=inbox_of(self._edge)
            ),
            world,
            source,
        )
        self._log = NodeLog(self._cloud, self._edge, self._background, out)
        self._failures = Failures(self._log.warn)
        self._refusals = Failures(lambda line: self._log.warn(f"refused on the node's broker: {line}"))
        self._journal = Journal(config.state / "journal.db", self._edge, world, config.quota, self._log.warn)
        self._node = self._cloud
        if config.node != config.cloud:
            self._node = Port(connect(config.node, root=config.root, world=world, name="agent"), world, source)
        self._devices: Bus | None = None
        if config.devices:
            self._devices = connect(config.devices, root=config.root, world=world, name="agent")
        environment = {
            BUS: config.worker_node,
            "HELIOGRAPH_ROOT": config.root,
            "HELIOGRAPH_EDGE": self._edge,
            "PYTHONIOENCODING": "utf-8:backslashreplace",  # the agent reads what its workers print as UTF-8
        }
        logins = None
        if config.worker_issuer is not None:
            from heliograph.edge_agent.worker_logins import WorkerLogins

            logins = WorkerLogins(config.worker_issuer, self._edge, world, self._log.warn)
        models = config.state / "models"
        self._launcher = launcher
        code = [replace(root, state=config.state.resolve()) for root in config.code]
        packages = packages_directory(config.state)
        blobs = CloudBlobs(self._cloud, self._edge)
        self._packages = PackageStore(packages, blobs, world, self._wake, self._log.warn)
        self._allowed = AllowedPackages(
            config.allowed_packages, config.allowed_packages_file, config.package_keys, world, self._log.warn
        )
        task_code = TaskCode(code, self._packages, self._allowed)
        self._supervisor = Supervisor(
            world, launcher, environment, models, task_code.directories, self._wake, self._log.log_worker,
            lambda task: found.working_directory if (found := task_code.of(task)) is not None else None,
            lambda task: code_digest_of(task, task_code.of(task)), lambda task: self._inventory.files_of(task),
            self._round_secret, logins,
        )  # fmt: skip
        self._models = ModelStore(models, blobs, world, self._wake, self._log.warn)
        self._held = HeldUploads(config.state / "held", world, self._log.warn)
        self._prefetcher = ModelPrefetcher(
            self._cloud, self._edge, self._models.fetch, self._held.settle, self._on_refused_hint
        )
        self._known = KnownFiles(config.state / "datasets.db", world, self._log.warn)
        self._inventory = Inventory(
            OwnDatasets(config.datasets, config.headers, config.label_columns), config.data, launcher, world,
            self._background, self._wake, self._log.warn,
            DatasetContents(config.state / "datasets", blobs, world), self._known, config.tells_labels,
        )  # fmt: skip
        self._labelling = EdgeLabelling(
            self._node, self._edge, self._journal, self._on_refused_event, self._failures
        )
        self._watch = ProducerWatch(self._on_anomaly, lambda: self._faults.grown())
        self._gateway = Gateway(
            self._node, self._edge, self._journal, self._supervisor.workers, self._background, self._on_refused_event,
            self._watch, self._hold_back,
        )  # fmt: skip
        self._from_devices = NodeDevices(
            self._devices or self._node.bus, self._edge, source, self._journal, self._watch, world, self._background,
            self._on_refused_event, self._on_anomaly, DeviceMapping(config.root, self._edge, config.device_rules),
            lambda: self._faults.grown(),
        )  # fmt: skip
        self._faults = FaultCounts(self._journal, world, self._background, self._faults_since_start,
                                   lambda news: self._reporter.counted(news))  # fmt: skip
        self._loops = NodeLoops(self._journal, self._edge_loops)
        self._recordings = NodeRecordings(config.state / "telemetry", self._recorder)
        self._journal.kept_from = lambda: self._recordings.recorded_through
        self._uploads = Uploads(launcher, self._held, self._cloud, self._edge, world, self._failures)
        self._upload_sender = UploadSender(self._cloud, self._edge, self._held.find, self._failures)
        self._forwarder = Forwarder(
            self._journal, self._cloud.bus, self._edge, world, self._uploads.may_name_weights,
            self._uploads.upload, self._on_dropped_event, self._log.warn, self._recordings.stays,
        )  # fmt: skip
        self._room = NodeRoom(
            config.state, lambda: self._journal.size, config.quota, lambda: self._forwarder.no_room, world,
            lambda: self._reporter.due(),
        )  # fmt: skip
        look = config.node_state
        self._node_watch = NodeWatch(look, world, lambda: self._reporter.due()) if look is not None else None
        self._offload = OffloadRelay(self._node, self._cloud, self._edge, self._failures)
        self._bridge: DeviceBridge | None = None
        if self._devices is not None:
            self._bridge = DeviceBridge(self._devices, self._node.bus, self._edge, world, self._refusals)
        self._unserved = UnservedResponder(self._node, self._supervisor.services, self._on_refused_event)
        place = f"{config.state.name}, journal {self._journal.uuid}"
        self._pods = PodSupport(config.pods)
        self._trust = ModelTrust(config.model_keys, self._loops.from_elsewhere)
        self._served = ServedProjects(config.projects, self._log.warn)
        self._claim = NameClaim(self._cloud, self._edge, place, self._background, self._failures, config.edge_signer)
        self._desired = DesiredDocument(
            self._cloud, self._edge, self._journal, self._background, self._wake, self._resynced, self._log.warn,
            self._failures, config.coordinator_keys, lambda: self._reporter.due(), lambda: self._renewal.doubt(),
        )  # fmt: skip
        self._renewal = LoginRenewal(config.cloud, world, config.root, self._log.warn, self._desired.look_again,
                                     self._cloud.bus)  # fmt: skip
        self._reconciler = Reconciler(
            self._node, self._edge, self._supervisor, launcher, self._models, self._prefetcher, self._inventory,
            self._packages, task_code, config.capacity, self._background, self._log.warn, self._failures,
            lambda task: self._served.objection(task) or self._trust.objection(task) or self._pods.objection(task),
            lambda: self._loops.needed,
        )  # fmt: skip
        self._reporter = Reporter(
            self._cloud, self._edge, self._claim.settled, self._report, lambda: self._inventory.offers,
            lambda: self._background.spawn(self._announce_ready()), self._log.warn,
        )  # fmt: skip
        self._changed = Flag()

    async def run(self) -> None:
        """Run until cancelled; neither broker need be reachable. Raise HeliographError where the agent cannot go on."""
        self._desired.load()
        self._pods.prepare(self.config.state)
        self._labelling.follow(self._desired.newest, self._desired.is_present)
        self._recordings.follow(self._desired.newest, self._desired.is_present)
        self._launcher.sweep({task.worker for task in self._desired.newest.tasks})
        self._watch_links()
        await self._cloud.bus.open()
        if self._node is not self._cloud:
            await self._node.bus.open()
        if self._devices is not None:
            await self._devices.open()
            self._devices.link.listen(self._on_device_link)
        self._cloud.bus.link.listen(self._on_cloud_link)
        self._node.bus.link.listen(self._on_node_link)
        try:
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._reconcile,
                    self._desired.follow,
                    self._desired.resync,
                    self._follow_workers,
                    self._reporter.run,
                    self._forwarder.run,
                    self._inventory.watch,
                    partial(self._allowed.watch, self._wake),
                    self._loops.run,
                    self._recordings.run,
                    self._room.run,
                    self._prefetcher.run,
                    self._uploads.run,
                    self._upload_sender.run,
                    self._held.run,
                    self._renewal.run,
                ):
                    group.create_task(keep_running(part, self._world, self._log.warn))
                if self._node_watch is not None:
                    group.create_task(keep_running(self._node_watch.run, self._world, self._log.warn))
                if not self._node.bus.durable:
                    relay = self._offload
                    labelling = self._labelling
                    for part in (self._gateway.run, self._from_devices.run, relay.carry_up, relay.carry_down,
                                 self._unserved.run, labelling.run, labelling.keep):  # fmt: skip
                        group.create_task(keep_running(part, self._world, self._log.warn))
                if self._bridge is not None:
                    group.create_task(keep_running(self._bridge.run, self._world, self._log.warn))
                group.create_task(self._claim.run())
                await self._journal.failed
        finally:
            await self._background.close()
            await self._faults.save()
            await self._supervisor.close()
            await self._models.close()
            await self._packages.close()
            for port in {id(self._cloud): self._cloud, id(self._node): self._node}.values():
                await port.bus.close()
            if self._devices is not None:
                await self._devices.close()
            self._known.close()
            self._journal.close()
            self._lock.close()

    def _watch_links(self) -> None:
        """Say why a broker is not reached, from before the first attempt on."""
        config, warn, info = self.config, self._log.warn, self._log.info
        links = [(self._cloud.bus, config.cloud, "the cloud", "this node goes on without it")]
        if self._node is not self._cloud:
            heard = "workers" if self._devices is not None else "devices and workers"
            links.append((self._node.bus, config.node, "the node's broker", f"{heard} of this node are not heard"))
        if self._devices is not None:
            links.append((self._devices, config.devices, "the devices' broker", "devices of this node are not heard"))
        for bus, url, what, follows in links:
            LinkWatch(bus.link, url, what, follows, self._world, warn, info).begin()

    async def _reconcile(self) -> None:
        while True:
            self._changed.clear()
            desired = self._served.applied(self._desired.newest)
            self._labelling.follow(desired, self._desired.is_present)
            self._loops.follow(desired, self._desired.is_present)
            self._recordings.follow(desired, self._desired.is_present)
            self._held.follow([task.job_uid for task in desired.tasks] + [loop.uid for loop in desired.loops.values()])
            with self._failures.contain(f"desired document {desired.generation}"):
                self._reconciler.reconcile(self._trust.applied(self._loops.applied(desired)))
            self._loops.look()
            self._reporter.due()
            await self._changed.wait()

    def _edge_loops(self) -> EdgeLoops:
        from heliograph.edge_agent.edge_loops import EdgeLoops
        from heliograph.edge_agent.loop_files import LoopFiles

        files = LoopFiles(self.config.state / "models", self._launcher, self._world)
        return EdgeLoops(self._journal, self._labelling, files, self._world, self._worker_reports, self._wake,
                         self._failures)  # fmt: skip

    def _recorder(self) -> Recorder:
        from heliograph.edge_agent.recording.recorder import Recorder

        state = self.config.state
        return Recorder(state / "telemetry", state / "journal.db", self._edge, self._journal, self._inventory,
                        self._world, self._log.warn)  # fmt: skip

    def _resynced(self) -> bool:
        if self._node.bus.durable:  # NATS delivers at most once: a worker may have missed its task
            self._supervisor.forget_assignments()
        self._wake()
        return bool(self._reconciler.holds)

    async def _follow_workers(self) -> None:
        async with self._node.subscribe(topics.WORKER, self._on_refused_state) as received:
            async for each in received:
                state = each.payload
                with self._refusals.contain(each.message.topic):
                    worker = launched(self._supervisor.workers, each.params["worker"], each.message.topic)
                    each.check_signed(worker.secret, f"{worker.task.worker}'s launch")
                    self._supervisor.take_state(worker.task.worker, state)

    async def _announce_ready(self) -> None:
        """Print that the agent is ready: the cloud knows this node, and the gateway takes its events."""
        if not self._node.bus.durable:
            await self._gateway.listening.wait()
            if self._devices is None:  # else the devices have a broker of their own, which may be away
                await self._from_devices.source.listening.wait()
        self._out(f"agent {self._edge} is ready")
        await self._inventory.learn_offers()  # last: this starts a process, which would slow the agent's start

    def _report(self) -> Report:
        desired, indexed = self._desired.newest, self._inventory.datasets
        workers, faults = self._worker_reports(), self._faults.shown
        report = Report(
            edge=self._edge,
            observed=desired.generation,
            version=__version__,
            workers=[*workers, *refusals(desired.unsupported)],
            datasets=[*(indexed[name] for name in sorted(indexed)), *desired.unsupported_datasets],
            labels=dict(self.config.labels),
            waiting_events=self._journal.waiting,
            dropped_events=self._journal.dropped + self._node.bus.dropped,
            refused_events=faults.refused,
            anomalous_events=faults.anomalous,
            unplaced_events=faults.unplaced,
            packages=self._packages.unpacked,
            capacity=_reported(self.config.capacity),
            full=self._room.full,
            loops=self._loops.reports(),
            unenforced=list(self.config.unenforced),
            refused_document=self._desired.refused[:MAX_REASON],
            signs_rounds=self.config.edge_signer is not None,
            node=self._node_watch.state if self._node_watch is not None else None,
        )
        return report

    def _faults_since_start(self) -> Faults:
        devices = self._from_devices
        refused = self._gateway.refusals + devices.intake.refusals
        return Faults(refused, self._watch.count, devices.unplaced.count)

    def _worker_reports(self) -> list[WorkerReport]:
        tasks = {task.worker: task for task in self._desired.newest.tasks}
        return worker_reports(self._supervisor.workers, self._reconciler.holds, tasks, self._models.failures,
                              self._round_key)  # fmt: skip

    def _round_secret(self, task: WorkerTask) -> bytes:
        """Return the secret of the key by which a job's aggregation worker signs its rounds: the same at each start, so
        that it knows the rounds again that it has closed before a crash."""
        if self.config.edge_signer is None or not isinstance(task, payloads.AggregateTask):
            return b""
        return self.config.edge_signer.derived_secret(f"rounds of {task.job_uid}")

    def _round_key(self, task: WorkerTask) -> str:
        secret = self._round_secret(task)
        return base64.urlsafe_b64encode(ed25519.public_of(secret)).decode().rstrip("=") if secret else ""

    def _hold_back(self, topic: Topic[Any], event: Event, entry: NewEvent) -> NewEvent:
        """Return what is journalled of a worker's event: what stays on this node is taken from it."""
        return self._loops.hold_back(topic, event, self._labelling.hold_back(topic, event, entry))

    def _on_cloud_link(self, up: bool) -> None:
        self._log.info("link to the cloud is up" if up else "link to the cloud is down")
        if up:
            self._reporter.may_be_lost()
            self._desired.look_again()

    def _on_node_link(self, up: bool) -> None:
        """Assign each worker its task again: messages under way are lost when the node's broker goes away."""
        if up:
            self._supervisor.forget_assignments()
            self._wake()

    def _on_device_link(self, up: bool) -> None:
        self._log.info(f"link to the devices' broker is {'up' if up else 'down'}")

    def _on_refused_event(self, topic: str, error: Exception) -> None:
        self._faults.grown(news=self._refusals.add(topic, error))

    def _on_anomaly(self, line: str) -> None:
        self._faults.grown(news=True)
        self._log.warn(line)

    def _on_refused_state(self, error: Refused) -> None:
        self._refusals.add(error.topic, error)

    def _on_refused_hint(self, error: Refused) -> None:
        self._failures.add(error.topic, error)

    def _on_dropped_event(self, kept: KeptEvent, error: Refused) -> None:
        self._log.warn(f"event {kept.n} was dropped, the cloud can never accept it: {error}")
        self._background.spawn(self._uploads.drop(kept))

    def _wake(self) -> None:
        self._changed.set()
        self._reporter.due()


def _reported(capacity: Capacity) -> NodeCapacity | None:
    if capacity == UNKNOWN:
        return None
    return NodeCapacity(memory=capacity.memory, gpus=len(capacity.gpus or ()))
