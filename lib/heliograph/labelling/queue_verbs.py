"""The verbs of a label queue: tasks are claimed under leases, labelled, passed over, given back, and read."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract import label_requests as requests
from heliograph.bus.contract.payloads import Annotation, Prediction
from heliograph.bus.contract.payloads.labels import MAX_PREDICTIONS, Source
from heliograph.bus.contract.weights_header import INLINE
from heliograph.core.errors import Refused
from heliograph.core.world import World, rfc3339
from heliograph.labelling import task_state
from heliograph.labelling.acceptance import is_held_out
from heliograph.labelling.label_store import LabelStore
from heliograph.labelling.results import check_result
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_state import Lease, TaskState

ANSWER_BYTES = 700_000
"""Bytes of samples, or of records, in one answer: base64 makes a third more of them, and a reply has 1 MiB."""
AT_ONCE = 64
"""Records that are read at the same time."""
MODEL_LABELLER = "model"


class QueueVerbs:
    """Answers the requests of one queue.

    Args:
        lock: held while a task's labels change.
    """

    def __init__(
        self, job: str, uid: str, index: TaskIndex, labels: LabelStore, lock: asyncio.Lock, world: World
    ) -> None:
        self._job = job
        self._uid = uid
        self._index = index
        self._labels = labels
        self._lock = lock
        self._world = world

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
            self._index.let_in(now)
            chosen = self._choose(labeller, body.count)
            expires = now + self._index.spec.lease_seconds
            leases = [Lease(id=self._world.new_uid(lease_key(self._job, task, labeller)), labeller=labeller,
                            source=body.source, expires=expires) for task in chosen]  # fmt: skip
            states = [task_state.claimed(self._index.open[task].state, lease)
                      for task, lease in zip(chosen, leases, strict=True)]  # fmt: skip
            await asyncio.gather(*map(self._index.store, states))
        tasks = []
        for state, lease in zip(states, leases, strict=True):
            task = await self._index.with_sample(state.task)
            tasks.append(requests.ClaimedTask(lease=lease.id, expires=rfc3339(lease.expires), task=task))
        return requests.Claimed(tasks=tasks, waiting=len(self._index.free), label_schema=self._index.spec.label_schema)

    def _choose(self, labeller: str, most: int) -> list[str]:
        """Return the oldest tasks that a labeller may have, as many as their samples fit into one answer."""
        found: list[str] = []
        size = 0
        for task in self._index.free:
            state = self._index.open[task].state
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
            task = self._index.task_of(lease, now)
            expires = now + self._index.spec.lease_seconds
            await self._index.store(task_state.renewed(self._index.open[task].state, lease, expires))
        return requests.Renewed(lease=lease, task=task, expires=rfc3339(expires))

    async def _submit(self, body: requests.SubmitLabel, caller: str) -> requests.Submitted:
        check_result(body.result, self._index.spec.label_schema)
        async with self._lock:
            now = self._world.now()
            if body.lease is not None:
                return await self._submit_leased(body, body.lease, caller, now)
            labeller = body.labeller or caller
            if body.task is None or not (body.supersedes or body.ground_truth):
                raise Refused("invalid", field="lease", got="nothing", expected="the lease that claim gave; or a task "
                              "with supersedes, or with ground_truth of a reviewer")  # fmt: skip
            state, revision = await self._index.state(body.task)
            annotation = self._annotation(body, state, labeller, "human", caller)
            return await self._labelled(state, revision, annotation, login=caller)

    async def _submit_leased(
        self, body: requests.SubmitLabel, id: str, caller: str, now: float
    ) -> requests.Submitted:
        again = self._index.ended(id)
        if isinstance(again, Annotation) and again.result == body.result:
            return requests.Submitted(annotation=again)  # the same request again: the answer to the first was lost
        task = self._index.task_of(id, now)
        if body.task not in (None, task):
            raise Refused("unknown-task", field="task", expected=f"{task}, the task of the lease", got=body.task)
        state = self._index.open[task].state
        lease = state.lease_of(id)
        assert lease is not None
        labeller = body.labeller or lease.labeller
        if labeller != lease.labeller and task_state.has_seen(state, labeller):
            raise Refused("labelled-already", field="labeller", expected="a labeller who has not had the task",
                          got=labeller)  # fmt: skip
        annotation = self._annotation(body, state, labeller, lease.source, caller)
        return await self._labelled(state, self._index.open[task].revision, annotation, id, caller)

    async def _skip(self, body: requests.SkipTask, caller: str) -> requests.Given:
        async with self._lock:
            now = self._world.now()
            task = self._index.task_of(body.lease, now)
            state = self._index.open[task].state
            lease = state.lease_of(body.lease)
            assert lease is not None
            passed = Annotation(
                job=self._job, queue_uid=self._uid, task=task, annotation=self._world.new_id(), labeller=lease.labeller,
                source=lease.source, skipped=True, reason=body.reason, origin=body.origin,
                schema_version=self._index.spec.label_schema.version, time=self._world.timestamp(),
            )  # fmt: skip
            await self._labels.add(state, self._index.open[task].revision, passed, body.lease, caller)
        return requests.Given(task=task)

    async def _release(self, lease: str) -> requests.Given:
        async with self._lock:
            task = self._index.task_of(lease, self._world.now())
            await self._index.store(task_state.released(self._index.open[task].state, lease))
            self._index.end(lease, "was released")
        return requests.Given(task=task)

    async def _propose(self, body: requests.ProposeLabel) -> requests.Proposed:
        check_result(body.prediction.result, self._index.spec.label_schema, "prediction.result")
        async with self._lock:
            state, _ = await self._index.state(body.task)
            if state.phase == "open":
                others = [each for each in state.task.predictions if each.model != body.prediction.model]
                task = state.task.model_copy(
                    update={"predictions": [*others, body.prediction][-MAX_PREDICTIONS:]}
                )
                await self._index.store(state.model_copy(update={"task": task}))
        return await self.consider(body.task, body.prediction)

    async def _read_sample(self, body: requests.ReadSample) -> requests.SamplePart:
        state, _ = await self._index.state(body.task)
        content = await self._index.sample(body.task)
        if content is None:
            where = state.task.data.edge
            got = f"one that is on the node of edge {where} alone" if where else "one whose sample is gone"
            raise Refused("not-here", field="task", expected="a task whose sample is here", got=got)
        part = content[body.offset : body.offset + INLINE]
        return requests.SamplePart(task=body.task, size=len(content), content=part)

    async def _list(self, body: requests.ListTasks) -> requests.TaskPage:
        if body.after is not None and body.after not in self._index.summaries:
            raise Refused("unknown-task", field="after", expected="a task of the queue", got=body.after)
        start = self._index.summaries[body.after].number if body.after is not None else 0
        wanted = [task for task, each in self._index.summaries.items()
                  if each.number > start and body.phase in (None, each.phase)]  # fmt: skip
        found: list[requests.TaskRecord] = []
        size = 0
        for first in range(0, min(len(wanted), body.limit), AT_ONCE):
            page = wanted[first : min(first + AT_ONCE, body.limit)]
            for state in await asyncio.gather(*map(self._index.found, page)):
                record = _record(state) if state is not None else None
                size += len(record.model_dump_json()) if record is not None else 0
                if found and size > ANSWER_BYTES:
                    return requests.TaskPage(tasks=found, after=found[-1].task.task)
                if record is not None:
                    found.append(record)
        more = len(wanted) > body.limit
        return requests.TaskPage(tasks=found, after=found[-1].task.task if more and found else None)

    async def consider(self, task: str, prediction: Prediction) -> requests.Proposed:
        """Make a prediction a label where the bar allows."""
        proposals = self._index.spec.proposals
        bar = self._index.bar
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
            found = self._index.open.get(task)
            if found is None or found.state.phase != "open" or found.state.standing:
                return requests.Proposed(task=task, accepted=False, bar=bar, why="it has labels already")
            annotation = Annotation(
                job=self._job, queue_uid=self._uid, task=task, annotation=self._world.new_id(), labeller=MODEL_LABELLER,
                source="model", result=prediction.result.model_copy(update={"score": score}),
                parent_prediction=prediction.model, schema_version=self._index.spec.label_schema.version,
                time=self._world.timestamp(),
            )  # fmt: skip
            await self._labels.add(found.state, found.revision, annotation)
        return requests.Proposed(task=task, accepted=True, bar=bar)

    async def _labelled(
        self, state: TaskState, revision: int, annotation: Annotation, lease: str = "", login: str = ""
    ) -> requests.Submitted:
        return requests.Submitted(annotation=await self._labels.add(state, revision, annotation, lease, login))

    def _annotation(
        self, body: requests.SubmitLabel, state: TaskState, labeller: str, source: Source, caller: str
    ) -> Annotation:
        if body.ground_truth and source != "oracle" and caller not in self._index.spec.reviewers:
            raise Refused("not-a-reviewer", field="ground_truth", expected="true from a login in the queue's "
                          "spec.reviewers, or from an oracle", got=f"true from {caller or 'nobody'}")  # fmt: skip
        return Annotation(
            job=self._job,
            queue_uid=self._uid,
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
            schema_version=self._index.spec.label_schema.version,
            time=self._world.timestamp(),
        )


def lease_key(queue: str, task: str, labeller: str) -> str:
    """Return the key under which a replay finds a recorded lease."""
    return f"leases.{queue}.{task}.{labeller}"


def _record(state: TaskState) -> requests.TaskRecord:
    return requests.TaskRecord(
        task=state.task,
        phase=state.phase,
        consensus=state.consensus,
        confidence=state.confidence,
        annotations=[each.annotation for each in state.labels],
        leased=len(state.leases),
    )
