"""The edge agent: keeps the node at its desired state, with the link to the cloud or without it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from heliograph import __version__
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import (
    Assignment,
    DatasetTask,
    Desired,
    Generation,
    Report,
    ScriptTask,
    WorkerTask,
)
from heliograph.bus.contract.permissions import inbox_of
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.port import Port, Received
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import require_label
from heliograph.core.tasks import Background, Flag, keep_running, wait_for
from heliograph.core.world import World
from heliograph.edge_agent.claim import NameClaim
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.gateway import Gateway
from heliograph.edge_agent.inventory import Inventory
from heliograph.edge_agent.journal import QUOTA, Journal, Kept
from heliograph.edge_agent.launcher import Launcher
from heliograph.edge_agent.model_prefetcher import ModelPrefetcher
from heliograph.edge_agent.models import ModelStore
from heliograph.edge_agent.node_log import NodeLog
from heliograph.edge_agent.offload_relay import OffloadRelay
from heliograph.edge_agent.reconcile import (
    Assign,
    CodeRoot,
    Fetch,
    Hold,
    Launch,
    Stop,
    decide,
    script_under_roots,
)
from heliograph.edge_agent.supervisor import Supervisor, Worker
from heliograph.edge_agent.unserved_responder import UnservedResponder
from heliograph.edge_agent.uploads import Uploads
from heliograph.edge_agent.worker_reports import worker_reports

RESYNC = 5.0
RESYNC_CALM = 300.0
"""Seconds after which the newest document is read again, and most of them where nothing has been new for long."""
REPORT_EVERY = 0.2
ASSIGN_AGAIN = 1.0


@dataclass(frozen=True)
class AgentConfig:
    """How an agent was started.

    Attributes:
        cloud: URL of the cloud's NATS, dialled out.
        node: URL of the node's broker, mqtt:// on an edge; the cloud's agent gives its NATS.
        worker_node: the same with the credentials that workers get.
        state: directory for journal, models and workers.
        code: roots under which a task's script may lie.
        data: roots under which a Dataset's file may lie.
        datasets: what this edge offers without being told.
        quota: bytes of events that may wait in the journal.
    """

    name: str
    cloud: str
    node: str
    worker_node: str
    state: Path
    code: tuple[CodeRoot, ...] = ()
    data: tuple[Path, ...] = ()
    datasets: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    quota: int = QUOTA
    root: str = DEFAULT_ROOT


class Agent:
    """One node's agent. ``launcher`` starts its workers."""

    def __init__(
        self, config: AgentConfig, launcher: Launcher, world: World, out: Callable[[str], None] = print
    ) -> None:
        self.config = config
        self._edge = require_label(config.name, "name")
        self._world = world
        self._out = out
        self._lock = world.hold(config.state)
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
        self._journal = Journal(config.state / "journal.db", self._edge, world, config.quota, self._log.warn)
        self._node = self._cloud
        if config.node != config.cloud:
            self._node = Port(connect(config.node, root=config.root, world=world, name="agent"), world, source)
        environment = {
            "HELIOGRAPH_BUS": config.worker_node,
            "HELIOGRAPH_ROOT": config.root,
            "HELIOGRAPH_EDGE": self._edge,
        }
        models = config.state / "models"
        self._launcher = launcher
        self._supervisor = Supervisor(world, launcher, environment, models, self._wake, self._log.worker_said)
        self._models = ModelStore(models, self._cloud.bus, world, self._wake, self._log.warn)
        self._prefetcher = ModelPrefetcher(self._cloud, self._models.fetch, self._log.warn)
        self._inventory = Inventory(
            config.datasets, config.data, launcher, world, self._background, self._wake, self._log.warn
        )
        self._gateway = Gateway(
            self._node, self._edge, self._journal, self._supervisor.workers, self._background, self._not_taken
        )
        uploads = Uploads(launcher, self._cloud.bus, self._edge)
        self._forwarder = Forwarder(
            self._journal, self._cloud.bus, self._edge, world, uploads.may_name_weights, uploads.upload,
            self._not_forwarded, self._log.warn,
        )  # fmt: skip
        self._offload = OffloadRelay(self._node, self._cloud, self._edge)
        self._unserved = UnservedResponder(
            self._node, self._supervisor.services, lambda error: self._not_taken("", error)
        )
        place = f"{config.state.name}, journal {self._journal.uuid}"
        self._claim = NameClaim(self._cloud, self._edge, place, self._background)
        self._desired = Desired(edge=self._edge, generation=Generation())
        self._read_at = 0
        """Where in its stream the document lies that was last read."""
        self._follows = False
        """Whether desired documents are subscribed to, across reconnects."""
        self._assignments = itertools.count(1)
        self._holds: dict[str, Hold] = {}
        self._changed = Flag()
        self._to_report = Flag()
        self._news = Flag()

    async def run(self) -> None:
        """Until cancelled. Neither broker need be there. Raises HeliographError where it can not go on."""
        self._load_desired()
        self._launcher.sweep({task.worker for task in self._desired.tasks})
        await self._cloud.bus.open()
        if self._node is not self._cloud:
            await self._node.bus.open()
        self._cloud.bus.link.listen(self._on_cloud_link)
        self._node.bus.link.listen(self._on_node_link)
        try:
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._reconcile_for_ever,
                    self._follow_desired,
                    self._resync,
                    self._follow_workers,
                    self._report_for_ever,
                    self._forwarder.run,
                ):
                    group.create_task(keep_running(part, self._world, self._log.warn))
                if not self._node.bus.durable:
                    relay = self._offload
                    for part in (self._gateway.run, relay.carry_up, relay.carry_down, self._unserved.run):
                        group.create_task(keep_running(part, self._world, self._log.warn))
                if self.config.datasets:
                    group.create_task(keep_running(self._inventory.index_own, self._world, self._log.warn))
                group.create_task(self._claim.run())
                await self._journal.failed
        finally:
            await self._background.close()
            await self._supervisor.close()
            await self._prefetcher.close()
            await self._models.close()
            for port in {id(self._cloud): self._cloud, id(self._node): self._node}.values():
                await port.bus.close()
            self._journal.close()
            self._lock.close()

    # desired

    async def _follow_desired(self) -> None:
        async with self._cloud.subscribe(topics.TASK, self._bad_desired, edge=self._edge) as received:
            self._follows = True
            await self._read_desired()
            async for each in received:
                self._take_desired(each)

    async def _resync(self) -> None:
        """Again after as long as nothing was new: what a lost message would have told comes no later than that."""
        wait = RESYNC
        while True:
            self._news.clear()
            if await wait_for(self._news, wait):
                wait = RESYNC
                continue
            await self._read_desired()
            if self._node.bus.durable:  # NATS delivers at most once: whether a worker has heard its task nobody knows
                self._supervisor.forget_assignments()
            self._wake()
            wait = RESYNC if self._holds else min(2 * wait, RESYNC_CALM)

    async def _read_desired(self) -> None:
        try:
            message = await self._cloud.bus.last(topics.TASK.at(edge=self._edge))
            if message is not None and message.sequence != self._read_at:
                self._take_desired(self._cloud.read(topics.TASK, message))
                self._read_at = message.sequence
        except Refused as error:
            self._bad_desired(error)
        except HeliographError:
            return  # the link is down; what lies on disk holds

    def _take_desired(self, received: Received[Desired]) -> None:
        desired = received.payload
        if desired.edge != self._edge or desired.generation.order <= self._desired.generation.order:
            return
        self._desired = desired
        self._news.set()
        self._wake()
        # after the work is under way: losing it to a crash costs one read of the newest document
        self._background.spawn(self._journal.save("desired", received.message.body))

    def _load_desired(self) -> None:
        if body := self._journal.load("desired"):
            try:
                self._desired = topics.TASK.validate(decode(body, "the desired state on disk").data, "on disk")
            except Refused as error:
                self._log.warn(f"{error}; waiting for the cloud")

    # reconciling

    async def _reconcile_for_ever(self) -> None:
        while True:
            self._changed.clear()
            self._reconcile()
            await self._changed.wait()

    def _reconcile(self) -> None:
        desired = self._desired
        self._inventory.tell(desired.datasets)
        self._prefetcher.follow(desired.tasks)
        running = {name: worker.seen() for name, worker in self._supervisor.workers.items()}
        actions = decide(desired.tasks, running, self._inventory.datasets, self._models, self.config.code)
        holds = {}
        for action in actions:
            if isinstance(action, Hold):
                holds[action.task.worker] = action
            elif isinstance(action, Fetch):
                self._models.fetch(action.model)
            elif isinstance(action, Launch):
                self._supervisor.launch(action.task)
            elif isinstance(action, Assign):
                self._assign(self._supervisor.workers[action.task.worker], action.task)
            elif isinstance(action, Stop):
                self._background.spawn(self._supervisor.stop(action.worker, self._tell_end))
        self._holds = holds
        used = [*desired.tasks, *(worker.task for worker in self._supervisor.workers.values())]
        self._models.keep_only({task.model.digest for task in used if task.model and task.needs_model_file})
        self._to_report.set()

    def _assign(self, worker: Worker, task: WorkerTask, *, ended: bool = False) -> None:
        worker.assigned = task
        worker.task = task
        path_for, files = partial(self._launcher.path_for, task.worker), self._inventory.files
        if isinstance(task, ScriptTask) and (script := task.script) is not None:
            path = script_under_roots(script.boot_file, self.config.code)
            boot_file = path_for(path) if path is not None else script.boot_file
            task = task.model_copy(update={"script": script.model_copy(update={"boot_file": boot_file})})
        model = task.model if task.needs_model_file else None
        dataset = (task.dataset or "") if isinstance(task, DatasetTask) else ""
        assignment = Assignment(
            number=next(self._assignments),
            task=task,
            edge=self._edge,
            model_file=path_for(self._models.path(model)) if model is not None else "",
            dataset_file=path_for(files[dataset]) if dataset in files else "",
            dataset_samples=self._inventory.datasets[dataset].samples if dataset in self._inventory.datasets else 0,
            ended=ended,
        )
        self._background.spawn(self._send_assignment(worker, assignment))

    async def _send_assignment(self, worker: Worker, assignment: Assignment) -> None:
        name = worker.task.worker
        while True:
            try:
                await self._node.publish(topics.ASSIGNMENT, assignment, worker=name)
                return
            except Refused as error:
                self._log.warn(f"worker {name}: {error}")
                return
            except HeliographError:
                await self._world.sleep(ASSIGN_AGAIN)
                if self._supervisor.workers.get(name) is not worker:
                    return

    def _tell_end(self, worker: Worker) -> None:
        self._assign(worker, worker.task, ended=True)

    async def _follow_workers(self) -> None:
        async with self._node.subscribe(topics.WORKER, lambda error: self._log.warn(str(error))) as received:
            async for each in received:
                state = each.payload
                self._supervisor.said(state.worker, state.state, state.detail)

    # to the cloud

    async def _report_for_ever(self) -> None:
        told: Report | None = None
        while True:
            await self._to_report.wait()
            self._to_report.clear()
            report = self._report()
            if report != told:
                try:
                    await self._cloud.bus.link.wait_up()
                    await self._claim.asked.wait()  # another agent's report is not overwritten
                    await self._cloud.publish(topics.REPORT, report, edge=self._edge)
                    if told is None:
                        self._background.spawn(self._say_ready())
                    told = report
                except HeliographError as error:
                    self._log.warn(f"report: {error}")
                    self._to_report.set()
            await self._world.sleep(REPORT_EVERY)

    async def _say_ready(self) -> None:
        """The cloud knows of this node; what is published on the node's broker from now on is taken too."""
        if not self._node.bus.durable:
            await self._gateway.listening.wait()
        self._out(f"agent {self._edge} is ready")
        await self._inventory.learn_offers()  # only now: the process that is asked would take the start's time

    def _report(self) -> Report:
        return Report(
            edge=self._edge,
            observed=self._desired.generation,
            version=__version__,
            workers=worker_reports(
                self._supervisor.workers,
                self._holds,
                {task.worker: task for task in self._desired.tasks},
                self._models.failures,
            ),
            datasets=[self._inventory.datasets[name] for name in sorted(self._inventory.datasets)],
            offers=self._inventory.offers,
            labels=dict(self.config.labels),
            waiting_events=self._journal.waiting,
            dropped_events=self._journal.dropped + self._node.bus.dropped,
            refused_events=self._gateway.refusals,
        )

    def _on_cloud_link(self, up: bool) -> None:
        self._log.info("link to the cloud is up" if up else "link to the cloud is down")
        if up:
            self._to_report.set()
            if self._follows:  # what was said meanwhile was missed
                self._background.spawn(self._read_desired())

    def _on_node_link(self, up: bool) -> None:
        """What was being said when the node's broker went is lost: each worker is handed its task again."""
        if up:
            self._supervisor.forget_assignments()
            self._wake()

    def _not_taken(self, topic: str, error: Refused) -> None:
        self._to_report.set()
        self._log.warn(f"refused on the node's broker: {error}")

    def _not_forwarded(self, kept: Kept, error: Refused) -> None:
        self._log.warn(f"event {kept.n} was dropped, the cloud will never take it: {error}")

    def _bad_desired(self, error: Refused) -> None:
        self._log.warn(f"desired document refused, the last one holds: {error}")

    def _wake(self) -> None:
        self._changed.set()
        self._to_report.set()
