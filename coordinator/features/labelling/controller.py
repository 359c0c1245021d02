"""The controller of label queues: samples become tasks, labellers' requests are answered, counts are shown."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract import buckets
from heliograph.bus.contract.event import encode
from heliograph.bus.contract.lanes import MESSAGE_ID
from heliograph.bus.contract.payloads import Annotation, LabelTask
from heliograph.bus.contract.resources import LabelQueue
from heliograph.bus.contract.topics import LABEL, LABEL_TASK, Topic
from heliograph.bus.transport import KeyValue, KeyValueEntry, Outgoing
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.labelling.intake import SampleIntake
from heliograph.coordinator.features.labelling.mirror import EdgeMirror
from heliograph.core.errors import Conflict, Refused
from heliograph.core.names import CLOUD
from heliograph.core.tasks import Flag, cancel_and_wait, keep_running, wait_for
from heliograph.labelling.numbers import agreement_of, status_of
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_queue import TaskQueue

SHOW_EVERY = 1.0
"""Seconds between two writes of a status."""
LOOK_EVERY = 10.0
"""Seconds after which ended leases and opened batches are counted though nobody asks."""
SWEEP_EVERY = 3600.0
"""Seconds between two looks for tasks that are older than their queue keeps them."""


class LabellingController(Feature[LabelQueue]):
    """Keeps the queues of this cluster."""

    async def prepare(self) -> None:
        """Make the parts; the stored tasks are read beside, since there may be many."""
        self._world = self.context.port.world
        self._queues: dict[str, TaskQueue] = {}
        """By the uid of the resource."""
        self._intakes: dict[str, SampleIntake | EdgeMirror] = {}
        self._dirty: dict[str, None] = {}
        self._wake = Flag()
        self._placed = Flag()
        """Set when a queue has come or gone."""
        self._loaded = asyncio.Event()
        self._swept = self._world.monotonic()
        self._buckets: tuple[KeyValue, KeyValue] | None = None

    def parts(self) -> Sequence[Part]:
        return self._take_samples, self._show_counts

    # requests

    def may_change(self, known: LabelQueue, wanted: LabelQueue, topic: str) -> None:
        """Refuse what stored labels would not fit."""
        before, after = known.spec, wanted.spec
        for field, one, other in (("location", before.location, after.location),
                                  ("labelSchema.type", before.label_schema.type, after.label_schema.type)):  # fmt: skip
            if one != other:
                raise Refused("fixed", topic=topic, field=f"spec.{field}", expected=f"{one}, as the queue was made",
                              got=other, hint="Make another queue, under another name.")  # fmt: skip
        if before.label_schema != after.label_schema and after.label_schema.version <= before.label_schema.version:
            raise Refused("invalid", topic=topic, field="spec.labelSchema.version", expected="a version above "
                          f"{before.label_schema.version}, since the schema changes",
                          got=after.label_schema.version)  # fmt: skip

    async def answer(self, verb: str, body: BaseModel, resource: LabelQueue | None, caller: str) -> BaseModel:
        assert resource is not None
        await self._loaded.wait()
        if resource.spec.location == "edge" and verb != "tasks":
            raise Refused("elsewhere", field="name", expected="a queue whose location is cloud", got=resource.name,
                          hint="The agents of its edges answer on their nodes' brokers.")  # fmt: skip
        return await (await self._queue_of(resource)).answer(verb, body, caller)

    async def removed(self, queue: LabelQueue) -> None:
        """Delete the queue's tasks and samples."""
        uid = queue.metadata.uid
        found, intake = self._queues.pop(uid, None), self._intakes.pop(uid, None)
        self._placed.set()
        if found is not None:
            self.context.background.spawn(found.forget())
        if intake is not None:
            self.context.background.spawn(intake.forget())

    async def reconcile(self) -> None:
        """Take over new and changed queues."""
        if not self._loaded.is_set():
            return
        for resource in self.resources():
            queue = await self._queue_of(resource)
            queue.index.follow(resource.spec)

    # tasks

    async def _queue_of(self, resource: LabelQueue, entries: Sequence[KeyValueEntry] = ()) -> TaskQueue:
        uid = resource.metadata.uid
        if (found := self._queues.get(uid)) is not None:
            return found
        tasks, samples = await self._opened_buckets()
        if (found := self._queues.get(uid)) is not None:  # made while the buckets were opened
            return found
        changed = partial(self._changed, uid)
        index = TaskIndex(resource.name, uid, resource.spec, tasks, samples, self._world, changed)
        publish = self._publish if resource.spec.location == "cloud" else _published_by_its_edge
        queue = self._queues[uid] = TaskQueue(resource.name, uid, index, self._world, publish)
        for line in queue.load(entries):
            self.context.warn(line)
        self._changed(uid)
        intake = SampleIntake if resource.spec.location == "cloud" else EdgeMirror
        self._intakes[uid] = intake(self.context, queue, tasks)
        self._placed.set()
        return queue

    async def _opened_buckets(self) -> tuple[KeyValue, KeyValue]:
        """Return the buckets of tasks and of samples, made with the first queue."""
        if self._buckets is None:
            bus = self.context.port.bus
            self._buckets = await bus.kv(buckets.LABELS), await bus.kv(buckets.SAMPLES)
        return self._buckets

    async def _load(self) -> None:
        """Read the tasks of all queues that an earlier coordinator stored."""
        resources = {each.metadata.uid: each for each in self.resources()}
        by_queue: defaultdict[str, list[KeyValueEntry]] = defaultdict(list)
        for entry in await (await self._opened_buckets())[0].entries() if resources else ():
            by_queue[entry.key.partition(".")[0]].append(entry)
        for uid, resource in resources.items():
            await self._queue_of(resource, by_queue[uid])
        self._loaded.set()

    async def _take_samples(self) -> None:
        """Follow the samples of every queue, until cancelled."""
        if not self._loaded.is_set():
            await self._load()
        following: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._placed.clear()
                for uid in following.keys() - self._intakes.keys():
                    await cancel_and_wait(following.pop(uid))
                for uid, intake in self._intakes.items():
                    if uid not in following:
                        part = keep_running(intake.run, self._world, self.context.warn)
                        following[uid] = asyncio.create_task(part)
                await self._placed.wait()
        finally:
            await cancel_and_wait(*following.values())

    async def _publish(self, payloads: Sequence[LabelTask] | Sequence[Annotation]) -> None:
        """Publish tasks or labels, all of one kind; one that the stream has already is left out by it."""
        bus, events = self.context.port.bus, [self._outgoing(each) for each in payloads]
        try:
            await bus.publish_all(events)
        except Conflict:  # a batch with one that the stream has is refused whole
            for each in events:
                await bus.publish(each.topic, each.body, headers=each.headers)

    def _outgoing(self, payload: LabelTask | Annotation) -> Outgoing:
        topic: Topic[Any] = LABEL_TASK if isinstance(payload, LabelTask) else LABEL
        id = f"{payload.queue_uid}.{payload.task}" if isinstance(payload, LabelTask) else payload.annotation
        address = topic.at(edge=CLOUD, job=payload.job)
        event = self.context.port.event(topic, payload, address, id=id)
        return Outgoing(address, encode(event), {MESSAGE_ID: id})

    # counts

    def _changed(self, uid: str) -> None:
        self._dirty[uid] = None
        self._wake.set()

    async def _show_counts(self) -> None:
        """Show the counts of the queues that have changed, and do what is due, until cancelled."""
        await self._loaded.wait()
        while True:
            if self._queues:
                await wait_for(self._wake, LOOK_EVERY)
            else:
                await self._wake.wait()
            self._wake.clear()
            sweep = self._world.monotonic() - self._swept >= SWEEP_EVERY
            self._swept = self._world.monotonic() if sweep else self._swept
            for queue in [*self._queues.values()]:
                await queue.labels.tell()
                queue.index.let_in(self._world.now())
                if sweep:
                    await queue.forget_old()
            for intake in [*self._intakes.values()]:
                await intake.save()
            changed, self._dirty = self._dirty, {}
            for uid in changed:
                if (found := self._queues.get(uid)) is not None:
                    with self.context.failures.contain(f"the counts of queue {found.job}"):
                        await self._show(found)
            await self._world.sleep(SHOW_EVERY)

    async def _show(self, queue: TaskQueue) -> None:
        labels = [each.labels for each in queue.index.summaries.values() if each.labels]
        found = await self._world.in_thread(agreement_of, labels, queue.spec.label_schema)
        queue.labels.model = found.model
        now = self._world.timestamp()

        def decide(resource: LabelQueue) -> LabelQueue:
            status = status_of(queue, found, resource.status, now)
            if resource.metadata.uid != queue.uid or status == resource.status:
                return resource
            return resource.model_copy(update={"status": status})

        await self.context.step(LabelQueue, queue.job, decide)


async def _published_by_its_edge(payloads: Sequence[LabelTask] | Sequence[Annotation]) -> None:
    """Publish nothing: what the coordinator stores of an edge's queue has come by these events."""
