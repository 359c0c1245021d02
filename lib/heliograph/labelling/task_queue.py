"""What a label queue does: it hands tasks out under leases, takes labels and proposals, and settles tasks.

A label is stored before it is published; what a fault leaves unpublished is published again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract import label_requests as requests
from heliograph.bus.contract.payloads import Annotation, LabelTask, Prediction
from heliograph.bus.contract.payloads.labels import MAX_PREDICTIONS, SampleData, Source
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.bus.contract.weights_header import INLINE
from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict, Refused
from heliograph.core.world import World, rfc3339
from heliograph.labelling import task_state
from heliograph.labelling.acceptance import is_held_out
from heliograph.labelling.agreement import LabellerModel
from heliograph.labelling.batches import BatchClock
from heliograph.labelling.results import check_result
from heliograph.labelling.samples import Sample
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_state import Lease, StoredLabel, TaskState

ANSWER_BYTES = 700_000
"""Bytes of samples, or of records, in one answer: base64 makes a third more of them, and a reply has 1 MiB."""
AT_ONCE = 64
"""Records that are read at the same time."""
MODEL_LABELLER = "model"

Publish = Callable[[Sequence[LabelTask] | Sequence[Annotation]], Awaitable[None]]


@dataclass(slots=True)
class LabellerCount:
    """Counts of one labeller."""

    source: str = "human"
    labels: int = 0
    skipped: int = 0
    timed: int = 0
    seconds: float = 0.0


class TaskQueue:
    """One queue.

    Args:
        index: its tasks.
        publish: publishes tasks, or labels; raises Unreachable where it cannot.

    Attributes:
        model: what is known of the labellers; the owner replaces it.
        labellers: counts of each labeller.
        repeated, left_out: samples that came again, and that found no room or carried no data.
    """

    def __init__(self, job: str, uid: str, index: TaskIndex, world: World, publish: Publish) -> None:
        self.job = job
        self.uid = uid
        self.index = index
        self.model = LabellerModel()
        self.labellers: dict[str, LabellerCount] = {}
        self.repeated = 0
        self.left_out = 0
        self._world = world
        self._publish = publish
        self._lock = asyncio.Lock()
        self._newest_task = 0
        self._newest_label = 0
        self._untold: dict[int, Annotation] = {}
        """Labels that are stored and not known to be published, by their number."""
        self._told = 0
        self._batches = BatchClock()

    @property
    def spec(self) -> LabelQueueSpec:
        return self.index.spec

    def load(self, entries: Iterable[KeyValueEntry]) -> list[str]:
        """Take over the stored tasks; return a line for each that cannot be read."""
        states, self._told, unreadable = self.index.load(entries)
        for state in states:
            for label in state.labels:
                self._count(label.annotation)
                self._newest_label = max(self._newest_label, label.number)
                if label.number > self._told:
                    self._untold[label.number] = label.annotation
            self._newest_task = max(self._newest_task, state.number)
            self._batches.fill(state.opens)
        return unreadable

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
                await self._consider(task.task, task.predictions[-1])

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
        """Take over a label that an edge's agent has stored and published; the same one again changes nothing.

        Raise Refused where the label does not fit the queue, or the task is another edge's.
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
            if state.task.data.edge != edge:
                raise Refused("not-yours", field="task", expected=f"a task of edge {state.task.data.edge}", got=edge)
            if any(each.annotation.annotation == annotation.annotation for each in state.labels):
                return
            number = self._newest_label = self._newest_label + 1
            label = StoredLabel(number=number, annotation=annotation)
            now = self._world.now()
            await self.index.store(task_state.labelled(state, label, self.spec, self.model, now), revision)
            self._count(annotation)

    def leave_out(self) -> None:
        """Count a sample that carried no data."""
        self.left_out += 1
        self.index.changed()

    # what is due

    async def tell(self) -> None:
        """Publish the labels that a fault left unpublished, and store up to which number all are."""
        for number, annotation in sorted(self._untold.items()):
            await self._publish([annotation])
            self._untold.pop(number, None)
        through = min(self._untold, default=self._newest_label + 1) - 1
        if through > self._told:
            await self.index.note_told(through)
            self._told = through

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

    # the verbs

    async def answer(self, verb: str, body: Any, caller: str) -> BaseModel:
        """Return the answer to a request. Raise Refused."""
        match verb:
            case "claim":
                return await self._claim(body, body.labeller or caller or "unknown")
            case "renew":
                return await self._renew(body.lease)
            case "submit":
                return await self._submit(body, caller)
            case "skip":
                return await self._skip(body, caller)
            case "release":
                return await self._release(body.lease)
            case "propose":
                return await self._propose(body)
            case "sample":
                return await self._read_sample(body)
            case "tasks":
                return await self._list(body)
        raise Refused("unknown-verb", field="verb", expected="a verb of a label queue", got=verb)

    async def _claim(self, body: requests.ClaimTasks, labeller: str) -> requests.Claimed:
        async with self._lock:
            now = self._world.now()
            self.index.let_in(now)
            chosen = self._choose(labeller, body.count)
            expires = now + self.spec.lease_seconds
            leases = [Lease(id=self._world.new_id(), labeller=labeller, source=body.source, expires=expires)
                      for _ in chosen]  # fmt: skip
            states = [task_state.claimed(self.index.open[task].state, lease)
                      for task, lease in zip(chosen, leases, strict=True)]  # fmt: skip
            await asyncio.gather(*map(self.index.store, states))
        tasks = []
        for state, lease in zip(states, leases, strict=True):
            task = await self.index.with_sample(state.task)
            tasks.append(requests.ClaimedTask(lease=lease.id, expires=rfc3339(lease.expires), task=task))
        return requests.Claimed(tasks=tasks, waiting=len(self.index.free), label_schema=self.spec.label_schema)

    def _choose(self, labeller: str, most: int) -> list[str]:
        """Return the oldest tasks that a labeller may have, as many as their samples fit into one answer."""
        found: list[str] = []
        size = 0
        for task in self.index.free:
            state = self.index.open[task].state
            if task_state.has_seen(state, labeller):
                continue
            size += state.task.data.size if state.task.data.size <= INLINE else 0
            if found and size > ANSWER_BYTES:
                break
            found.append(task)
            if len(found) == most:
                break
        return found

    async def _renew(self, lease: str) -> requests.Renewed:
        async with self._lock:
            now = self._world.now()
            task = self.index.task_of(lease, now)
            expires = now + self.spec.lease_seconds
            await self.index.store(task_state.renewed(self.index.open[task].state, lease, expires))
        return requests.Renewed(lease=lease, task=task, expires=rfc3339(expires))

    async def _submit(self, body: requests.SubmitLabel, caller: str) -> requests.Submitted:
        check_result(body.result, self.spec.label_schema)
        async with self._lock:
            now = self._world.now()
            if body.lease is not None:
                return await self._submit_leased(body, body.lease, caller, now)
            labeller = body.labeller or caller
            if body.task is None or not (body.supersedes or body.ground_truth):
                raise Refused("invalid", field="lease", got="nothing", expected="the lease that claim gave; or a task "
                              "with supersedes, or with ground_truth of a reviewer")  # fmt: skip
            state, revision = await self.index.state(body.task)
            annotation = self._annotation(body, state, labeller, "human", caller)
            return await self._label(state, revision, annotation, "", caller, now)

    async def _submit_leased(
        self, body: requests.SubmitLabel, id: str, caller: str, now: float
    ) -> requests.Submitted:
        again = self.index.ended(id)
        if isinstance(again, Annotation) and again.result == body.result:
            return requests.Submitted(annotation=again)  # the same request again: the answer to the first was lost
        task = self.index.task_of(id, now)
        if body.task not in (None, task):
            raise Refused("unknown-task", field="task", expected=f"{task}, the task of the lease", got=body.task)
        state = self.index.open[task].state
        lease = state.lease_of(id)
        assert lease is not None
        labeller = body.labeller or lease.labeller
        if labeller != lease.labeller and task_state.has_seen(state, labeller):
            raise Refused("labelled-already", field="labeller", expected="a labeller who has not had the task",
                          got=labeller)  # fmt: skip
        annotation = self._annotation(body, state, labeller, lease.source, caller)
        return await self._label(state, self.index.open[task].revision, annotation, id, caller, now)

    async def _skip(self, body: requests.SkipTask, caller: str) -> requests.Given:
        async with self._lock:
            now = self._world.now()
            task = self.index.task_of(body.lease, now)
            state = self.index.open[task].state
            lease = state.lease_of(body.lease)
            assert lease is not None
            passed = Annotation(
                job=self.job, queue_uid=self.uid, task=task, annotation=self._world.new_id(), labeller=lease.labeller,
                source=lease.source, skipped=True, reason=body.reason, origin=body.origin,
                schema_version=self.spec.label_schema.version, time=self._world.timestamp(),
            )  # fmt: skip
            await self._label(state, self.index.open[task].revision, passed, body.lease, caller, now)
        return requests.Given(task=task)

    async def _release(self, lease: str) -> requests.Given:
        async with self._lock:
            task = self.index.task_of(lease, self._world.now())
            await self.index.store(task_state.released(self.index.open[task].state, lease))
            self.index.end(lease, "was released")
        return requests.Given(task=task)

    async def _propose(self, body: requests.ProposeLabel) -> requests.Proposed:
        check_result(body.prediction.result, self.spec.label_schema, "prediction.result")
        async with self._lock:
            state, _ = await self.index.state(body.task)
            if state.phase == "open":
                others = [each for each in state.task.predictions if each.model != body.prediction.model]
                task = state.task.model_copy(
                    update={"predictions": [*others, body.prediction][-MAX_PREDICTIONS:]}
                )
                await self.index.store(state.model_copy(update={"task": task}))
        return await self._consider(body.task, body.prediction)

    async def _read_sample(self, body: requests.ReadSample) -> requests.SamplePart:
        state, _ = await self.index.state(body.task)
        content = await self.index.sample(body.task)
        if content is None:
            where = state.task.data.edge
            got = f"one that is on the node of edge {where} alone" if where else "one whose sample is gone"
            raise Refused("not-here", field="task", expected="a task whose sample is here", got=got)
        part = content[body.offset : body.offset + INLINE]
        return requests.SamplePart(task=body.task, size=len(content), content=part)

    async def _list(self, body: requests.ListTasks) -> requests.TaskPage:
        if body.after is not None and body.after not in self.index.summaries:
            raise Refused("unknown-task", field="after", expected="a task of the queue", got=body.after)
        start = self.index.summaries[body.after].number if body.after is not None else 0
        wanted = [task for task, each in self.index.summaries.items()
                  if each.number > start and body.phase in (None, each.phase)]  # fmt: skip
        found: list[requests.TaskRecord] = []
        size = 0
        for first in range(0, min(len(wanted), body.limit), AT_ONCE):
            page = wanted[first : min(first + AT_ONCE, body.limit)]
            for state in await asyncio.gather(*map(self.index.found, page)):
                record = _record(state) if state is not None else None
                size += len(record.model_dump_json()) if record is not None else 0
                if found and size > ANSWER_BYTES:
                    return requests.TaskPage(tasks=found, after=found[-1].task.task)
                if record is not None:
                    found.append(record)
        more = len(wanted) > body.limit
        return requests.TaskPage(tasks=found, after=found[-1].task.task if more and found else None)

    # labels

    def _annotation(
        self, body: requests.SubmitLabel, state: TaskState, labeller: str, source: Source, caller: str
    ) -> Annotation:
        if body.ground_truth and source != "oracle" and caller not in self.spec.reviewers:
            raise Refused("not-a-reviewer", field="ground_truth", expected="true from a login in the queue's "
                          "spec.reviewers, or from an oracle", got=f"true from {caller or 'nobody'}")  # fmt: skip
        return Annotation(
            job=self.job,
            queue_uid=self.uid,
            task=state.task.task,
            annotation=self._world.new_id(),
            labeller=labeller,
            source=source,
            result=body.result,
            ground_truth=body.ground_truth or source == "oracle",
            lead_time=body.lead_time,
            parent_prediction=body.parent_prediction,
            supersedes=body.supersedes or "",
            origin=body.origin,
            schema_version=self.spec.label_schema.version,
            time=self._world.timestamp(),
        )

    async def _label(
        self, state: TaskState, revision: int, annotation: Annotation, lease: str, login: str, now: float
    ) -> requests.Submitted:
        """Store a label, then publish it."""
        number = self._newest_label = self._newest_label + 1
        label = StoredLabel(number=number, lease=lease, login=login, annotation=annotation)
        after = task_state.labelled(state, label, self.spec, self.model, now)
        await self.index.store(after, revision)
        told = after.labels[-1].annotation
        self.index.end(lease, told)
        self._count(told)
        self._untold[number] = told
        self.index.changed()
        await self._publish([told])
        self._untold.pop(number, None)
        return requests.Submitted(annotation=told)

    async def _consider(self, task: str, prediction: Prediction) -> requests.Proposed:
        """Make a prediction a label where the bar allows."""
        proposals = self.spec.proposals
        bar = self.index.bar
        score = prediction.score if prediction.score is not None else prediction.result.score
        why = ""
        if proposals is None:
            why = "the queue takes no proposals"
        elif is_held_out(task, proposals.held_out):
            why = "held out: people label it, so that the bar is known"
        elif bar is None:
            why = "too few held-out labels are known"
        elif score is None or score < bar:
            why = "its confidence is below the bar"
        if why:
            return requests.Proposed(task=task, accepted=False, bar=bar, why=why)
        async with self._lock:
            found = self.index.open.get(task)
            if found is None or found.state.phase != "open" or found.state.standing:
                return requests.Proposed(task=task, accepted=False, bar=bar, why="it has labels already")
            annotation = Annotation(
                job=self.job, queue_uid=self.uid, task=task, annotation=self._world.new_id(), labeller=MODEL_LABELLER,
                source="model", result=prediction.result.model_copy(update={"score": score}),
                parent_prediction=prediction.model, schema_version=self.spec.label_schema.version,
                time=self._world.timestamp(),
            )  # fmt: skip
            await self._label(found.state, found.revision, annotation, "", "", self._world.now())
        return requests.Proposed(task=task, accepted=True, bar=bar)

    def _count(self, annotation: Annotation) -> None:
        count = self.labellers.setdefault(annotation.labeller, LabellerCount(annotation.source))
        count.skipped += annotation.skipped
        count.labels += not annotation.skipped and not annotation.supersedes
        if annotation.lead_time is not None:
            count.timed += 1
            count.seconds += annotation.lead_time


def _record(state: TaskState) -> requests.TaskRecord:
    return requests.TaskRecord(
        task=state.task,
        phase=state.phase,
        consensus=state.consensus,
        confidence=state.confidence,
        annotations=[each.annotation for each in state.labels],
        leased=len(state.leases),
    )
