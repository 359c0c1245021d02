"""A label queue: samples become tasks, labels settle them, and settled ones go after their time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.payloads import Annotation, LabelTask
from heliograph.bus.contract.payloads.labels import SampleData
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict
from heliograph.core.world import World, rfc3339
from heliograph.labelling.batches import BatchClock
from heliograph.labelling.label_store import LabelStore, Publish
from heliograph.labelling.queue_verbs import QueueVerbs
from heliograph.labelling.results import check_result
from heliograph.labelling.samples import Sample
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_state import TaskState


class TaskQueue:
    """One queue.

    Args:
        index: its tasks.
        publish: publishes tasks, or labels; raises Unreachable where it cannot.

    Attributes:
        labels: its labels, and what is known of their labellers.
        repeated, left_out: samples that came again, and that found no room or carried no data.
    """

    def __init__(self, job: str, uid: str, index: TaskIndex, world: World, publish: Publish) -> None:
        self.job = job
        self.uid = uid
        self.index = index
        self.repeated = 0
        self.left_out = 0
        self._world = world
        self._publish = publish
        self._lock = asyncio.Lock()
        self._newest_task = 0
        self.labels = LabelStore(index, world, publish)
        self._verbs = QueueVerbs(job, uid, index, self.labels, self._lock, world)
        self._batches = BatchClock()

    @property
    def spec(self) -> LabelQueueSpec:
        return self.index.spec

    def load(self, entries: Iterable[KeyValueEntry]) -> list[str]:
        """Take over the stored tasks; return a line for each that cannot be read."""
        states, told, unreadable = self.index.load(entries)
        self.labels.load(states, told)
        for state in states:
            self._newest_task = max(self._newest_task, state.number)
            self._batches.fill(state.opens)
        return unreadable

    async def answer(self, verb: str, body: Any, caller: str) -> BaseModel:
        """Return the answer to a request. Raise Refused."""
        return await self._verbs.answer(verb, body, caller)

    # samples in

    async def add(self, task: LabelTask, sample: Sample | None) -> bool:
        """Store a new task with its sample, and publish it. Return False where it is known already, or where there is
        no room, or no sample to label."""
        state = self.admit(task, sample)
        if state is None:
            return False
        if not await self.index.create(state, sample.content if sample is not None else None):
            self.repeated += 1  # stored before, but the answer was lost
            return False
        await self._told_of([state.task])
        return True

    async def add_all(self, found: Sequence[tuple[LabelTask, Sample]]) -> None:
        """Add tasks with their samples together, which takes few writes."""
        admitted = [(state, sample) for task, sample in found if (state := self.admit(task, sample)) is not None]
        states = [state for state, _ in admitted]
        try:
            await self.index.create_all(states, [sample.content for _, sample in admitted])
        except Conflict:  # a fault has left some of them: one by one
            for state, sample in admitted:
                self.index.reserve(state)
                if await self.index.create(state, sample.content):
                    await self._told_of([state.task])
            return
        await self._told_of([state.task for state in states])

    async def _told_of(self, tasks: Sequence[LabelTask]) -> None:
        """Publish new tasks, and make labels of the big model's predictions where the bar allows."""
        if tasks:
            await self._publish(tasks)
        for task in tasks if self.spec.proposals is not None else ():
            if task.predictions:
                await self._verbs.consider(task.task, task.predictions[-1])

    def admit(self, task: LabelTask, sample: Sample | None) -> TaskState | None:
        """Return the state of a new task, which the caller stores; None where it is known already, or where there is
        no room, or no sample to label."""
        known = task.task in self.index.summaries
        full = len(self.index.open) >= self.spec.most_tasks or (sample is None and task.data.edge is None)
        self.repeated += known
        self.left_out += full and not known
        self.index.changed()
        if known or full:
            return None
        self._newest_task += 1
        opens = self._batches.next(self._world.now(), self.spec.batches)
        if opens:
            task = task.model_copy(update={"opens": rfc3339(opens)})
        state = TaskState(number=self._newest_task, task=task, opens=opens)
        self.index.reserve(state)
        return state

    async def mirror(self, annotation: Annotation, edge: str) -> None:
        """Take over a label that an edge's agent has stored and published; the same one again changes nothing. A sample
        that several edges have is one task with the labels of all.

        Raise Refused where the label does not fit the queue, or replaces another edge's.
        """
        if annotation.result is not None:
            check_result(annotation.result, self.spec.label_schema)
        async with self._lock:
            if annotation.task not in self.index.summaries:  # its task comes later, by another stream
                data = SampleData(media_type="", size=0, edge=edge)
                task = LabelTask(job=self.job, queue_uid=self.uid, task=annotation.task, edge=edge, data=data)
                state = self.admit(task, None)
                if state is None or not await self.index.create(state, None):
                    return
            state, revision = await self.index.state(annotation.task)
            if any(each.annotation.annotation == annotation.annotation for each in state.labels):
                return
            await self.labels.mirror(state, revision, annotation, edge)

    def leave_out(self) -> None:
        """Count a sample that carried no data."""
        self.left_out += 1
        self.index.changed()

    # what is due

    async def forget_old(self) -> None:
        """Delete the tasks that were settled longer ago than the queue keeps them, and their samples."""
        until = self._world.now() - self.spec.keep_days * 86400
        summaries = self.index.summaries.items()
        for task in [task for task, each in summaries if each.phase != "open" and each.settled_at < until]:
            await self.index.delete(task)

    async def forget(self) -> None:
        """Delete all tasks: the queue has been deleted."""
        for task in [*self.index.summaries]:
            await self.index.delete(task)
