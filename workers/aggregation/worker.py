"""The aggregation worker: collects a round's updates, checks each, closes the round, and is alone in deciding what
counted.

Its close record in key-value is written by compare-and-set before the event that tells of it; after a crash it reads
the stream of updates again from the round's start. What a round held is freed by its close record, so that another
process can do it as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import AggregateTask, Aggregation, Assignment, ModelUpdate, UncountedUpdate
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import MODEL_UPDATE
from heliograph.bus.contract.weights_file import Tensor, TensorFile, origin
from heliograph.bus.port import Received
from heliograph.bus.transport import Message
from heliograph.core.errors import Conflict, HeliographError, Refused
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World
from heliograph.workers.aggregation.blocks import Input, aggregate
from heliograph.workers.aggregation.checks import check_claims, check_norm, check_weights
from heliograph.workers.aggregation.leftovers import KEPT_MODELS, MODELS, Leftovers
from heliograph.workers.aggregation.round import CloseReason, Collection, Staged
from heliograph.workers.algorithms import choose
from heliograph.workers.runtime import Runtime, WorkerEnvironment, run

ROUNDS = "rounds"
"""The key-value bucket of close records: ``<job uid>.<round>``."""
FETCHES = 4
"""Updates fetched at the same time."""
T = TypeVar("T")


class Aggregator:
    """Aggregates one job, round after round."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._world = runtime.world
        self._collection: Collection | None = None
        self._task: AggregateTask | None = None
        self._base: Path | bytes | None = None
        self._layout: Mapping[str, Tensor] | None = None
        self._ahead: list[tuple[Received[ModelUpdate], int]] = []
        self._uninvited: dict[str, tuple[Received[ModelUpdate], int]] = {}
        """Updates of the present round from edges that are not asked now: a round's participants may change, and come
        back, where all of them have gone."""
        self._position = 0
        self._changed = asyncio.Event()
        self._closing = asyncio.Lock()
        """Held while a closed round is told and tidied up: the job's end waits for it."""
        self._fetching = asyncio.Semaphore(FETCHES)
        self._stages: dict[str, asyncio.Task[None]] = {}
        """By edge: what fetches and checks its update of the present round."""
        self._reading: asyncio.Task[None] | None = None
        self._updates = runtime.launch.directory / "updates"
        self._leftovers = Leftovers(runtime.bus, self._world, self._updates, runtime.launch.models)

    async def run(self) -> None:
        """Until the job has ended."""
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(self._close_when_due())
            tidying = group.create_task(self._leftovers.run())
            await self._runtime.assignments(lambda each: self._assigned(each, group))
            async with self._closing:
                closing.cancel()
            await self._leftovers.done()
            tidying.cancel()
            for task in self._stages.values():
                task.cancel()
            if self._reading is not None:
                self._reading.cancel()
        await self._leftovers.end()

    async def _assigned(self, assignment: Assignment, group: asyncio.TaskGroup) -> None:
        task = assignment.task
        if assignment.ended or not isinstance(task, AggregateTask):
            return
        if self._task is not None and (self._task.job_uid, self._task.round) == (task.job_uid, task.round):
            if self._collection is not None:
                self._collection.spec = task.collect
                waiting, self._uninvited = self._uninvited, {}
                for received, sequence in waiting.values():
                    self._take(received, sequence)
                self._changed.set()
            return
        if self._task is None and await self._resume(task):
            return
        await self._begin(task)
        if self._reading is None:
            self._reading = group.create_task(self._read(task.job, task.collect.start))

    async def _resume(self, task: AggregateTask) -> bool:
        """This process's first round: an earlier one may have closed it, and left what closed rounds held.

        Returns whether it had closed it.
        """
        closed: Aggregation | None = None
        for round in range(max(0, task.round - KEPT_MODELS - 1), task.round + 1):
            if closed := await self._insist(partial(self._record, f"{task.job_uid}.{round}")):
                self._leftovers.free(closed)
        if closed is not None:
            await self._tell(closed)
        return closed is not None

    async def _record(self, key: str) -> Aggregation | None:
        entry = await (await self._runtime.bus.kv(ROUNDS)).get(key)
        return Aggregation.model_validate_json(entry.value) if entry is not None else None

    async def _begin(self, task: AggregateTask) -> None:
        parameters, self._combine = choose(task.algorithm, task.parameters)
        self._parameters = parameters
        self._base = await self._source(task.model) if task.model is not None else None
        self._layout = None
        if self._base is not None:
            with TensorFile(self._base) as file:
                self._layout = dict(file.tensors)
        self._task = task
        self._collection = Collection(
            job_uid=task.job_uid,
            round=task.round,
            base=task.model.digest if task.model else None,
            spec=task.collect,
            min_updates=parameters.min_node_number if task.round else 1,
            began=self._world.monotonic(),
        )
        waiting, self._ahead = self._ahead, []
        for received, sequence in waiting:
            self._take(received, sequence)
        self._changed.set()

    async def _source(self, ref: WeightsRef) -> Path | bytes:
        """The weights as bytes or as a file of this node, fetched where they are not here."""
        if ref.inline is not None:
            return ref.inline
        target = self._runtime.launch.models / ref.digest
        return await self._insist(partial(self._download, ref, target))

    async def _download(self, ref: WeightsRef, target: Path) -> Path:
        return await (await self._runtime.bus.blobs(ref.bucket or MODELS)).fetch(ref, target)

    async def _upload(self, file: Path, ref: WeightsRef) -> WeightsRef:
        return await (await self._runtime.bus.blobs(MODELS)).put(file, ref)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_reachable(call, self._world, self._world.say)

    async def _read(self, job: str, start: int) -> None:
        async with self._runtime.bus.consume(MODEL_UPDATE.filter(job=job), start=start) as messages:
            async for message in messages:
                self._position = message.sequence
                self._receive(message)

    def _receive(self, message: Message) -> None:
        try:
            received = self._runtime.port.read(MODEL_UPDATE, message)
        except Refused as error:
            params = MODEL_UPDATE.match(message.topic)
            if self._collection is not None and params is not None:
                self._collection.refuse(params["edge"], self._collection.round, str(error))
                self._changed.set()
            self._world.say(f"refused: {error}")
            return
        self._take(received, message.sequence)

    def _take(self, received: Received[ModelUpdate], sequence: int) -> None:
        collection = self._collection
        if collection is None:  # between two rounds: the next one judges it
            self._ahead.append((received, sequence))
            return
        update, edge = received.payload, received.params["edge"]
        judgement, reason = collection.judge(update, edge)
        if judgement == "ahead":
            self._ahead.append((received, sequence))
        elif judgement == "duplicate":
            collection.duplicates += 1
        elif judgement == "late":
            note = UncountedUpdate(edge=edge, round=update.round, reason=reason, digest=_blob_of(update))
            collection.late.append(note)
            self._world.say(f"late: {edge}: {reason}")
        elif judgement == "uninvited":
            self._uninvited.setdefault(edge, (received, sequence))
        elif judgement == "foreign":
            collection.foreign.append(UncountedUpdate(edge=edge, round=update.round, reason=reason[:1000]))
            self._world.say(f"refused: {edge}: {reason}")
        elif judgement == "refused":
            collection.refuse(edge, update.round, reason, _blob_of(update))
            self._world.say(f"refused: {edge}: {reason}")
        else:
            collection.staging[edge] = update
            self._stages[edge] = asyncio.create_task(self._stage(collection, update, edge, sequence))
        self._changed.set()

    async def _stage(self, collection: Collection, update: ModelUpdate, edge: str, sequence: int) -> None:
        """Fetches an update's weights and checks them; what fails is quarantined with its reason."""
        target = self._updates / f"{edge}-{update.weights.digest}"
        try:
            check_claims(update, collection.base, collection.spec.samples.get(edge))
            source = await self._fetch(update.weights, edge, target)
            if isinstance(source, bytes):
                tensors = self._check(source)
            else:
                tensors = await self._world.in_thread(self._check, source)
        except (HeliographError, OSError) as error:
            collection.staging.pop(edge, None)
            collection.refuse(edge, update.round, str(error), _blob_of(update))
            target.unlink(missing_ok=True)
            self._world.say(f"refused: {edge}: {error}")
        else:
            if collection.staging.pop(edge, None) is not None:
                collection.staged[edge] = Staged(update, int(update.num_samples), sequence, tensors)
        self._changed.set()

    def _check(self, source: Path | bytes) -> Mapping[str, Tensor]:
        tensors = check_weights(source, self._layout)
        check_norm(source, self._base, self._parameters.norm_bound)
        return tensors

    async def _fetch(self, ref: WeightsRef, edge: str, target: Path) -> Path | bytes:
        if ref.inline is not None:
            import hashlib

            digest = hashlib.sha256(ref.inline).hexdigest()
            if digest != ref.digest or len(ref.inline) != ref.size:
                raise Refused("digest", field="weights.digest", expected=digest, got=ref.digest)
            return ref.inline
        if ref.bucket != upload_bucket(edge):
            expected = f"inline, or in {upload_bucket(edge)}"
            raise Refused("invalid", field="weights.bucket", expected=expected, got=ref.bucket)
        async with self._fetching:
            return await self._insist(partial(self._download, ref, target))

    async def _close_when_due(self) -> None:
        while True:
            self._changed.clear()
            timeout = None
            if (collection := self._collection) is not None:
                now = self._world.monotonic()  # one for both: between two the deadline may pass unseen
                if reason := collection.close_reason(now):
                    await self._close(collection, reason)
                    continue
                timeout = collection.due_in(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()

    async def _close(self, collection: Collection, reason: CloseReason) -> None:
        assert self._task is not None
        self._collection = None
        for edge, (received, _) in sorted(self._uninvited.items()):
            why = f"edge {edge} was not asked in round {collection.round}"
            collection.refuse(edge, collection.round, why, _blob_of(received.payload))
        self._uninvited.clear()
        for edge in collection.give_up():
            self._stages[edge].cancel()  # else it would ask for ever, in the place of another's fetch
        closed = await self._insist(partial(self._write, await self._result(collection, reason)))
        async with self._closing:
            await self._tell(closed)
            self._leftovers.free(closed)

    async def _write(self, closed: Aggregation) -> Aggregation:
        """The close record that holds: this one, or one that was written before."""
        key = f"{closed.job_uid}.{closed.round}"
        try:
            await (await self._runtime.bus.kv(ROUNDS)).put(key, closed.model_dump_json().encode(), 0)
        except Conflict:  # closed before a crash, or the answer was lost: that record decides
            return await self._record(key) or closed
        return closed

    async def _result(self, collection: Collection, reason: CloseReason) -> Aggregation:
        staged = collection.staged
        model = self._task.model if self._task else None
        if staged:
            inputs = {
                edge: Input(
                    each.update.weights.inline or self._updates / f"{edge}-{each.update.weights.digest}",
                    float(each.num_samples),
                    each.tensors,
                )
                for edge, each in staged.items()
            }
            models = self._runtime.launch.models
            mine = origin(collection.job_uid, collection.round)
            if sum(each.update.weights.size for each in staged.values()) < 4_000_000:
                model = aggregate(inputs, self._combine, models, threads=1, layout=self._layout, metadata=mine)
            else:
                summed = partial(aggregate, inputs, self._combine, models, layout=self._layout, metadata=mine)
                model = await self._world.in_thread(summed)
            if model.inline is None:
                model = await self._insist(partial(self._upload, models / model.digest, model))
        settled = [sequence for _, sequence in self._ahead]
        return Aggregation(
            job=self._task.job if self._task else "",
            job_uid=collection.job_uid,
            round=collection.round,
            model=model,
            counted={edge: staged[edge].update.weights.digest for edge in sorted(staged)},
            num_samples=sum(each.num_samples for each in staged.values()),
            metrics=_mean_metrics(staged),
            refused=[*collection.refused, *collection.foreign][:1000],
            late=collection.late[:1000],
            duplicates=collection.duplicates,
            duration_seconds=round(self._world.monotonic() - collection.began, 6),
            reason=reason,
            next_sequence=min(settled, default=self._position + 1),
        )

    async def _tell(self, closed: Aggregation) -> None:
        """Tells that a round is closed; with the same id each time, it is the same fact."""
        publish = self._runtime.port.publish
        same = f"{closed.job_uid}.{closed.round}"
        await self._insist(lambda: publish(topics.AGGREGATION, closed, id=same, job=closed.job))



def _blob_of(update: ModelUpdate) -> str:
    """The digest of weights that lie in their edge's bucket; empty where they came inside the event."""
    return update.weights.digest if update.weights.inline is None else ""


def _mean_metrics(staged: Mapping[str, Staged]) -> dict[str, float]:
    """The mean of the metrics that every participant reported, weighted by samples."""
    if not staged:
        return {}
    names = set.intersection(*(set(each.update.metrics) for each in staged.values()))
    total = sum(each.num_samples for each in staged.values())
    return {
        name: sum(each.update.metrics[name] * each.num_samples for each in staged.values()) / total
        for name in sorted(names)
    }


async def main() -> None:
    """Entry of the process."""
    async with Runtime(WorkerEnvironment.from_environment(), World()) as runtime:
        await Aggregator(runtime).run()


if __name__ == "__main__":
    sys.exit(run(main))
