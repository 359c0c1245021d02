"""The aggregation worker: collect a round's updates, close the round, and alone decide which updates count.

It writes the close record in key-value by compare-and-set before the event that announces it; after a crash it reads
the stream of updates again from the round's start. The close record also names the algorithm's state, so that any
process continues from the same bits, and all blobs of its round that are freed later.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Collection as AnyOf
from dataclasses import replace
from functools import partial
from pathlib import Path

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.contract import close_record, topics
from heliograph.bus.contract.payloads import AggregateTask, Aggregation, Assignment, RoundState
from heliograph.bus.contract.permissions import worker_login
from heliograph.bus.contract.weights_file import ENCODING, TensorFile, origin
from heliograph.core.errors import Refused
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World
from heliograph.workers.aggregation.checks import (
    CheckedWeights,
    check_norm,
    check_weights,
    expected_layout,
    largest_size,
    norm_of,
)
from heliograph.workers.aggregation.close_records import CloseRecords
from heliograph.workers.aggregation.closing import close_record_of, inputs_of
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.culprits import combine_without_culprits
from heliograph.workers.aggregation.decoding import DECODED, decode, encoding_of
from heliograph.workers.aggregation.intake import Intake
from heliograph.workers.aggregation.leftovers import Leftovers
from heliograph.workers.aggregation.model_files import ModelFiles
from heliograph.workers.aggregation.outliers import ENOUGH, far_updates
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round import CloseReason, Collection
from heliograph.workers.aggregation.round_inputs import INITIAL, RoundStart
from heliograph.workers.aggregation.untrained import equals_base
from heliograph.workers.algorithms import Algorithm, choose
from heliograph.workers.runtime import Runtime, WorkerEnvironment, run

IN_LOOP = 4_000_000
"""Bytes of updates that are combined in the event loop, at most: a thread's start would take longer."""


class Aggregator:
    """Aggregates one job, round after round."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._world = runtime.world
        self._task: AggregateTask | None = None
        self._algorithm: Algorithm | None = None
        self._start = RoundStart()
        """The base model and the state of the open round."""
        self._newest: Aggregation | None = None
        """The newest closed round."""
        self._closing = asyncio.Lock()
        """Locked while a closed round is announced: the job's end waits for it."""
        self._following: asyncio.Task[None] | None = None
        self._signer = runtime.environment.signer
        updates, models = runtime.environment.directory / "updates", runtime.environment.models
        self._records = CloseRecords(runtime.bus, self._world, self._signer)
        self._files = ModelFiles(runtime.bus, self._world, models)
        uploads = Uploads(runtime.port)
        self._intake = Intake(runtime.port, uploads, updates)
        self._leftovers = Leftovers(self._world, updates, models)

    async def run(self) -> None:
        """Aggregate until the job has ended."""
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(self._close_when_due())
            tidying = group.create_task(self._leftovers.run())
            await self._runtime.assignments(lambda each: self._assigned(each, group), AggregateTask)
            async with self._closing:
                closing.cancel()
            await self._leftovers.wait_until_deleted()
            tidying.cancel()
            self._intake.cancel()
            if self._following is not None:
                self._following.cancel()
        await self._leftovers.end_job(await self._records.last_round(self._task.job_uid) if self._task else None)

    async def _assigned(self, assignment: Assignment, group: asyncio.TaskGroup) -> None:
        task = assignment.task
        if assignment.ended or not isinstance(task, AggregateTask):
            return
        if self._task is not None and (self._task.job_uid, self._task.round) == (task.job_uid, task.round):
            self._intake.change_participants(task.collect)
            return
        if self._task is None and await self._resume(task):
            return
        await self._begin(task)
        if self._following is None:
            consumer = worker_login(self._runtime.environment.worker)
            self._following = group.create_task(self._intake.follow(task.job, task.collect.start, consumer))

    async def _resume(self, task: AggregateTask) -> bool:
        """Continue an earlier process's job: free what its closed rounds left, and announce this round if it is closed.

        Return whether it is closed.
        """
        for each in await self._records.recent(task.job_uid, task.round):
            self._leftovers.delete_soon(each)
            self._newest = each
        if self._newest is None or self._newest.round != task.round:
            return False
        await self._announce(self._newest)
        return True

    async def _begin(self, task: AggregateTask) -> None:
        algorithm = choose(task.algorithm, task.parameters)
        start = await self._round_start(task)
        expected = None if start.layout is None else expected_layout(start.layout, algorithm.beside)
        self._task, self._algorithm, self._start = task, algorithm, start
        collection = Collection(
            job_uid=task.job_uid,
            round=task.round,
            base=task.model.digest if task.model else None,
            spec=task.collect,
            min_updates=algorithm.least() if task.round else 1,
            began=self._world.monotonic(),
        )
        bound, factor = algorithm.parameters.norm_bound, algorithm.parameters.norm_factor
        measured = bound is not None or (factor > 0 and len(task.collect.participants) >= ENOUGH)

        def check(source: Path | bytes, target: Path) -> CheckedWeights:
            decoded = self._decoded(source, target, start)
            source = decoded or source
            checked = check_weights(source, expected, start.base, measured=measured)._replace(decoded=decoded)
            check_norm(checked.distance, bound)
            if start.base is None or start.layout is None:
                return checked
            return checked._replace(unchanged=equals_base(source, checked.tensors, start.base, start.layout))

        self._intake.begin(collection, check, largest_size(expected) if expected is not None else None)

    @staticmethod
    def _decoded(source: Path | bytes, target: Path, start: RoundStart) -> Path | None:
        """Return the file of an update's whole weights; None where it travelled as such."""
        found = encoding_of(source)
        if found is None:
            return None
        if start.base is None or start.layout is None:
            raise Refused("bad-weights", field=ENCODING, expected="whole weights: there is no base", got="an encoding")
        whole = target.with_name(target.name + DECODED)
        decode(source, whole, *found, start.base, start.layout)
        return whole

    async def _round_start(self, task: AggregateTask) -> RoundStart:
        """Return the base model, and the state from the round before."""
        if task.model is None:
            return INITIAL
        base = await self._files.get(task.model)
        with TensorFile(base) as file:
            layout = dict(file.tensors)
        closed = self._round_before(task)
        state = closed.state if closed is not None else None
        return RoundStart(base, layout, await self._files.get(state) if state is not None else None)

    def _round_before(self, task: AggregateTask) -> Aggregation | RoundState | None:
        """Return the record of the round before, or what an earlier run has left of it."""
        newest = self._newest
        if newest is None or (newest.job_uid, newest.round) != (task.job_uid, task.round - 1):
            return task.resumed
        return newest

    async def _close_when_due(self) -> None:
        changed = self._intake.changed
        while True:
            changed.clear()
            timeout = None
            if (collection := self._intake.open) is not None:
                now = self._world.monotonic()  # read once: between two readings the deadline could pass unnoticed
                if reason := collection.close_reason(now):
                    await self._close(reason)
                    continue
                timeout = collection.seconds_to_deadline(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await changed.wait()

    async def _close(self, reason: CloseReason) -> None:
        assert self._task is not None
        assert self._algorithm is not None
        task, collection = self._task, self._intake.close()
        if task.model is None:
            collection.keep_one_start()
        far = await self._far_updates(collection)
        combined, left_out = await combine_without_culprits(
            [edge for edge in collection.staged if edge not in far], lambda edges: self._combine(collection, edges)
        )
        left_out = {edge: f"because of algorithm {task.algorithm}: {why}" for edge, why in left_out.items()}
        for edge, why in left_out.items():
            self._world.say(f"refused: {edge}: {why}")
        result = replace(await self._store(combined), excluded={**far, **left_out, **combined.excluded})
        lasted = round(self._world.monotonic() - collection.began, 6)
        closed = await self._records.write(
            close_record_of(
                task, collection, reason, result, self._round_before(task), lasted, self._intake.next_sequence,
                self._algorithm.parameters.max_share,
            )
        )  # fmt: skip
        self._newest = closed
        async with self._closing:
            await self._announce(closed)
            self._leftovers.delete_soon(closed)

    async def _far_updates(self, collection: Collection) -> dict[str, str]:
        """Return the edges whose update is far from the base by the measure of the round, with the reason."""
        assert self._algorithm is not None
        base, factor = self._start.base, self._algorithm.parameters.norm_factor
        distances = {
            edge: each.distance for edge, each in collection.staged.items() if each.distance is not None
        }  # fmt: skip
        if base is None or not distances:
            return {}
        found = partial(far_updates, distances, factor, lambda: norm_of(base))
        far: dict[str, str] = found() if isinstance(base, bytes) else await self._world.in_thread(found)
        for edge, why in far.items():
            self._world.say(f"refused: {edge}: {why}")
        return far

    async def _combine(self, collection: Collection, edges: AnyOf[str]) -> Result:
        staged = {edge: each for edge, each in collection.staged.items() if edge in edges}
        if not staged:
            return Result()
        assert self._task is not None and self._algorithm is not None
        combine = partial(
            aggregate,
            inputs_of(staged),
            self._algorithm,
            self._files.directory,
            start=self._start,
            round=collection.round,
            asked=len(collection.asked),
            edges_of_job=self._task.edges_of_job or len(collection.asked),
            refused=len(collection.refused_edges) + len(collection.staged) - len(staged),
            metadata=origin(collection.job_uid, collection.round),
        )
        if sum(each.update.weights.size for each in staged.values()) < IN_LOOP:
            return combine(threads=1)
        result: Result = await self._world.in_thread(combine)
        return result

    async def _store(self, result: Result) -> Result:
        """Store the result's files where every node can fetch them. Return the result with their references."""
        put = self._files.put
        return replace(
            result,
            model=await put(result.model) if result.model is not None else None,
            state=await put(result.state) if result.state is not None else None,
            down=await put(result.down) if result.down is not None else None,
            personal={edge: await put(each) for edge, each in result.personal.items()},
        )

    async def _announce(self, closed: Aggregation) -> None:
        """Publish that a round is closed; a repeated announcement has the same id."""
        publish = self._runtime.port.publish
        same = close_record.key_of(closed.job_uid, closed.round)
        await retry_until_reachable(
            lambda: publish(topics.AGGREGATION, closed, id=same, job=closed.job, signer=self._signer),
            self._world, self._world.say,
        )  # fmt: skip


async def main() -> None:
    """Run the worker process."""
    async with Runtime(WorkerEnvironment.from_environment(), World()) as runtime:
        await Aggregator(runtime).run()


if __name__ == "__main__":
    sys.exit(run(main))
