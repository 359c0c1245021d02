"""The results of a task: a version of its model remains, and the blobs of its last rounds are freed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.blob_store import BlobStore
from heliograph.bus.connect import connect
from heliograph.bus.contract import close_record
from heliograph.bus.contract.model_requests import Rollback
from heliograph.bus.contract.payloads import Aggregation, UncountedUpdate
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    BEST,
    BestModel,
    FederatedTask,
    Model,
    RoundRecord,
    WeightsRef,
    latest,
    named_by,
    resolve,
)
from heliograph.bus.contract.weights_file import write
from heliograph.bus.transport import Bus, KeyValue
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.results import Results
from heliograph.coordinator.registry.aliases import referred, roll_back
from heliograph.coordinator.registry.model_versions import UNFINISHED, ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.world import World
from heliograph.workers.aggregation.close_records import CloseRecords

SMALL = write({"w": np.zeros(2)}, Path("/nonexistent"))


@dataclass
class Desk:
    """A store and blobs in memory, with the results of tasks on them."""

    bus: Bus
    store: ResourceStore
    rounds: KeyValue
    directory: Path
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = ModelVersions(self.bus, self.store, self.lock, self.save)
        self.results = Results(self.bus, self.store, self.rounds, self.versions)

    def lock(self, plural: str, name: str) -> asyncio.Lock:
        return self.locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def save(self, model: Model) -> None:
        known = self.store.get(Model, model.name) is not None
        await (self.store.put(model) if known else self.store.create(model))

    async def models(self) -> BlobStore:
        return await self.bus.blobs("models")

    async def blob(self, bucket: str, content: bytes) -> WeightsRef:
        file = self.directory / sha256(content).hexdigest()
        file.write_bytes(content)
        return await (await self.bus.blobs(bucket)).put(file, WeightsRef(digest=file.name, size=len(content)))

    async def task(self, name: str = "one", phase: str = "Succeeded", **status: Any) -> FederatedTask:
        spec = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]}
        task = parse_resource({"kind": "FederatedTask", "metadata": {"name": name}, "spec": spec})
        assert isinstance(task, FederatedTask)
        ended = task.status.model_copy(update={"phase": phase} | status)
        return await self.store.create(task.model_copy(update={"status": ended}))

    async def closed(self, task: FederatedTask, round: int, model: WeightsRef | None, **more: Any) -> None:
        record = Aggregation(job=task.name, job_uid=task.metadata.uid, round=round, model=model, reason="complete",
                             **({"counted": {}} | more))  # fmt: skip
        await self.rounds.put(close_record.key_of(task.metadata.uid, round), record.model_dump_json().encode())

    def weights(self) -> list[tuple[int, str, str]]:
        """Return number, digest and job of each version."""
        model = self.store.get(Model, "m")
        return [(each.version, each.weights.digest, each.job) for each in model.status.versions] if model else []

    def unfinished(self) -> list[tuple[int, str, int]]:
        """Return number, digest and round of each model of a job that failed or was stopped."""
        model = self.store.get(Model, "m")
        return [(each.version, each.weights.digest, each.round) for each in model.status.unfinished] if model else []


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    world = World()
    bus = connect(f"memory://results-{world.new_id()}", world=world)
    await bus.open()
    return Desk(bus, ResourceStore(await bus.kv("resources"), world), await bus.kv("rounds"), tmp_path)


async def test_a_result_becomes_the_deployed_version_and_lies_where_agents_fetch_it(desk: Any) -> None:
    task = await desk.task(model=SMALL, model_round=4, evaluation={"accuracy": 0.5}, completion_time="now")
    await desk.results.register(task, View())
    version = resolve(desk.store.get(Model, "m"), "edge-1")
    assert (version.version, version.round, version.metrics, version.time) == (1, 4, {"accuracy": 0.5}, "now")
    assert (version.weights.inline, version.weights.bucket) == (None, "models")
    assert await (await desk.models()).has(SMALL.digest)


async def test_a_second_task_adds_a_version_and_the_same_one_again_none(desk: Any) -> None:
    first = await desk.task(model=SMALL)
    second = await desk.task("two", model=SMALL)
    for task in (first, second, first, second):
        await desk.results.register(task, View())
    uids = (first.metadata.uid, second.metadata.uid)
    assert desk.weights() == [(number, SMALL.digest, uid) for number, uid in enumerate(uids, 1)]


async def test_two_tasks_that_end_at_once_both_leave_their_version(desk: Any) -> None:
    tasks = [await desk.task(f"job-{number}", model=SMALL) for number in range(5)]
    await asyncio.gather(*(desk.results.register(task, View()) for task in tasks))
    assert [number for number, _, _ in desk.weights()] == [1, 2, 3, 4, 5]
    assert {job for _, _, job in desk.weights()} == {task.metadata.uid for task in tasks}


@pytest.mark.parametrize("status", [{"phase": "Failed", "model": SMALL}, {"phase": "Stopped", "model": SMALL}, {}])
async def test_without_success_or_model_there_is_no_version(desk: Any, status: dict[str, Any]) -> None:
    await desk.results.register(await desk.task(**status), View())
    assert desk.weights() == []


COUNTED = {"rounds": [RoundRecord(round=1, counted=2, model=SMALL.digest, metrics={"loss": 0.5})], "model_round": 1}


@pytest.mark.parametrize("phase", ["Failed", "Stopped"])
async def test_the_last_global_model_of_a_job_without_success_is_kept_and_not_deployed(desk: Any, phase: str) -> None:
    task = await desk.task(phase=phase, model=SMALL, round=2, completion_time="now", **COUNTED)
    for _ in range(2):  # another coordinator ends it once more
        await desk.results.register(task, View())
    assert (desk.weights(), desk.unfinished()) == ([], [(1, SMALL.digest, 1)])
    model = desk.store.get(Model, "m")
    assert (resolve(model), latest(model).metrics, latest(model).job) == (None, {"loss": 0.5}, task.metadata.uid)
    await desk.results.free_last_rounds(task)
    assert await (await desk.models()).has(SMALL.digest)
    await desk.results.register(await desk.task("two", model=SMALL), View())
    assert (desk.weights()[0][0], latest(desk.store.get(Model, "m")).version) == (2, 2)  # no number twice


async def test_a_job_that_goes_on_after_all_leaves_one_version(desk: Any) -> None:
    """Its end was decided on, and not stored: another decision came first."""
    failed = await desk.task(phase="Failed", model=SMALL, **COUNTED)
    await desk.results.register(failed, View())
    status = failed.status.model_copy(update={"phase": "Succeeded", "round": 3})
    await desk.results.register(failed.model_copy(update={"status": status}), View())
    assert ([number for number, _, _ in desk.weights()], desk.unfinished()) == ([2], [])


async def test_a_model_keeps_the_newest_unfinished_ones_and_frees_the_others(desk: Any) -> None:
    refs = [await desk.blob("models", f"model {number}".encode()) for number in range(UNFINISHED + 2)]
    for number, ref in enumerate(refs):
        await desk.results.register(await desk.task(f"job-{number}", phase="Failed", model=ref, **COUNTED), View())
    assert [digest for _, digest, _ in desk.unfinished()] == [each.digest for each in refs[2:]]
    assert set(await (await desk.models()).digests()) == {each.digest for each in refs[2:]}


async def test_the_aggregation_worker_hears_which_round_was_the_last_one(desk: Any) -> None:
    before, later = await desk.blob("models", b"round 1"), await desk.blob("models", b"round 2")
    task = await desk.task(phase="Stopped", model=before, round=2, **COUNTED)
    await desk.closed(task, 1, before, counted={"edge-1": "d"})
    await desk.closed(task, 2, later, counted={"edge-1": "d"})  # closed while the job was stopped
    await desk.results.register(task, View())
    assert await CloseRecords(desk.bus, World()).last_round(task.metadata.uid) == 1
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {before.digest}


async def test_the_last_rounds_blobs_are_freed_except_the_result(desk: Any) -> None:
    before, result = await desk.blob("models", b"round 1"), await desk.blob("models", b"round 2")
    upload, late = await desk.blob(upload_bucket("edge-1"), b"mine"), await desk.blob(upload_bucket("edge-2"), b"late")
    other = await desk.blob(upload_bucket("edge-1"), b"of another job")
    task = await desk.task(model=result, round=2)
    await desk.closed(task, 1, before, counted={"edge-1": upload.digest})
    uncounted = UncountedUpdate(edge="edge-2", round=1, reason="late", digest=late.digest)
    await desk.closed(task, 2, result, counted={"edge-2": "d"}, late=[uncounted])
    await desk.results.register(task, View())
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {result.digest}
    assert set(await (await desk.bus.blobs(upload_bucket("edge-1"))).digests()) == {other.digest}
    assert set(await (await desk.bus.blobs(upload_bucket("edge-2"))).digests()) == set()


async def test_each_edges_own_model_of_the_last_round_is_part_of_the_result(desk: Any) -> None:
    result, own, older = [await desk.blob("models", text) for text in (b"result", b"edge-1's", b"edge-1's before")]
    task = await desk.task(model=result, round=2)
    await desk.closed(task, 1, None, counted={"edge-1": "d"}, personal={"edge-1": older})
    await desk.closed(task, 2, result, counted={"edge-1": "d"}, personal={"edge-1": own})
    await desk.results.register(task, View())
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {result.digest, own.digest}


async def test_weights_of_a_running_task_or_a_declared_model_stay(desk: Any) -> None:
    trained, declared = await desk.blob("models", b"trained"), await desk.blob("models", b"declared")
    await desk.task("running", phase="Running", model=trained)
    await desk.store.create(Model.model_validate({"metadata": {"name": "d"}, "spec": {"weights": declared}}))
    task = await desk.task(phase="Stopped", round=2)
    await desk.closed(task, 1, trained)
    await desk.closed(task, 2, declared)
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {trained.digest, declared.digest}


async def test_earlier_rounds_were_freed_while_the_task_ran(desk: Any) -> None:
    old, recent = await desk.blob("models", b"old"), await desk.blob("models", b"recent")
    task = await desk.task(phase="Failed", round=100)
    await desk.closed(task, 1, old)
    await desk.closed(task, 99, recent)
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {old.digest}


def _best(model: WeightsRef, round: int) -> BestModel:
    return BestModel(metric="accuracy", mode="max", value=0.9, round=round, model=model, metrics={"accuracy": 0.9})


async def test_the_best_model_is_a_version_before_the_last_one_which_is_deployed(desk: Any) -> None:
    best, last = await desk.blob("models", b"round 1"), await desk.blob("models", b"round 3")
    task = await desk.task(model=last, model_round=3, best=_best(best, 1), completion_time="now")
    for _ in range(2):  # another coordinator ends it once more
        await desk.results.register(task, View())
    uid = task.metadata.uid
    assert desk.weights() == [(1, best.digest, uid), (2, last.digest, uid)]
    model = desk.store.get(Model, "m")
    assert (resolve(model).version, model.status.aliases) == (2, {BEST: 1})
    assert (named_by(model, BEST).round, named_by(model, BEST).metrics) == (1, {"accuracy": 0.9})
    assert len(model.status.moves) == 1
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {best.digest, last.digest}


async def test_a_last_model_that_is_the_best_is_one_version(desk: Any) -> None:
    last = await desk.blob("models", b"round 3")
    await desk.results.register(await desk.task(model=last, model_round=3, best=_best(last, 3)), View())
    model = desk.store.get(Model, "m")
    assert ([number for number, _, _ in desk.weights()], model.status.aliases) == ([1], {BEST: 1})


async def test_the_best_model_of_an_unfinished_job_has_the_alias_and_is_deployed_nowhere(desk: Any) -> None:
    best, last = await desk.blob("models", b"round 1"), await desk.blob("models", b"round 3")
    task = await desk.task(phase="Failed", model=last, best=_best(best, 1), **COUNTED | {"model_round": 3})
    for _ in range(2):
        await desk.results.register(task, View())
    model = desk.store.get(Model, "m")
    assert desk.unfinished() == [(1, best.digest, 1), (2, last.digest, 3)]
    assert (model.status.aliases, named_by(model, BEST).weights.digest) == ({BEST: 1}, best.digest)
    assert (resolve(model), latest(model).version) == (None, 2)
    await desk.results.free_last_rounds(task)
    assert set(await (await desk.models()).digests()) == {best.digest, last.digest}


async def test_edges_that_are_bound_to_the_alias_keep_what_they_run(desk: Any) -> None:
    good = await desk.blob("models", b"good")
    await desk.results.register(await desk.task(model=good, model_round=3, best=_best(good, 3)), View())
    model = desk.store.get(Model, "m")
    bound = model.status.model_copy(update={"bindings": {BEST: ["edge-1"]}})
    await desk.store.put(model.model_copy(update={"status": bound}))
    other, last = await desk.blob("models", b"other"), await desk.blob("models", b"last")
    failed = await desk.task("two", "Failed", model=last, best=_best(other, 1), **COUNTED | {"model_round": 3})
    await desk.results.register(failed, View())
    model = desk.store.get(Model, "m")
    assert resolve(model, "edge-1").weights.digest == good.digest
    await desk.results.register(await desk.task("three", model=last, model_round=3, best=_best(other, 1)), View())
    assert resolve(desk.store.get(Model, "m"), "edge-1").weights.digest == other.digest


async def test_the_alias_goes_with_the_unfinished_model_that_it_names(desk: Any) -> None:
    refs = [await desk.blob("models", f"model {number}".encode()) for number in range(UNFINISHED + 1)]
    best = await desk.blob("models", b"best")
    first = await desk.task(phase="Stopped", model=refs[0], best=_best(best, 1), **COUNTED | {"model_round": 2})
    await desk.results.register(first, View())
    for number, ref in enumerate(refs[1:], 1):
        assert desk.store.get(Model, "m").status.aliases == {BEST: 1}
        await desk.results.register(await desk.task(f"job-{number}", phase="Failed", model=ref, **COUNTED), View())
    model = desk.store.get(Model, "m")
    assert (model.status.aliases, model.status.moves) == ({}, [])
    assert set(await (await desk.models()).digests()) == {each.digest for each in refs[1:]}


async def test_the_bytes_of_a_best_model_that_travel_inline_are_stored_before_it_is_named(desk: Any) -> None:
    before = await desk.task(phase="Running", model=SMALL)
    status = before.status.model_copy(update={"best": _best(SMALL.model_copy(update={"inline": None}), 1)})
    after = before.model_copy(update={"status": status})
    await desk.results.keep_best(before, after)
    assert await (await desk.models()).has(SMALL.digest)
    await desk.store.put(after)
    assert SMALL.digest in await desk.results.used_blobs()
    await desk.results.free([SMALL.digest, "0" * 64])
    assert await (await desk.models()).has(SMALL.digest)


@pytest.mark.parametrize(("phase", "kept"), [("Stopped", True), ("Failed", True), ("Succeeded", False)])
async def test_what_another_run_would_begin_from_stays_until_the_task_is_deleted(
    desk: Any, phase: str, kept: bool
) -> None:
    last, state, down = [await desk.blob("models", text) for text in (b"model", b"state", b"down")]
    task = await desk.task(phase=phase, model=last, state=state, down=down, round=1, **COUNTED)
    await desk.closed(task, 1, last, counted={"edge-1": "d"}, state=state, down=down)
    await desk.results.register(task, View())
    await desk.results.free_last_rounds(task)
    beside = {state.digest, down.digest} if kept else set()
    assert set(await (await desk.models()).digests()) == {last.digest} | beside
    assert await desk.results.used_blobs() == beside
    await desk.store.delete(task)
    await desk.results.free_own(task)
    assert set(await (await desk.models()).digests()) == {last.digest}


async def test_a_task_whose_model_is_kept_no_longer_keeps_nothing_beside_it(desk: Any) -> None:
    last, state = await desk.blob("models", b"model"), await desk.blob("models", b"state")
    await desk.task(phase="Failed", model=last, state=state, **COUNTED)
    assert await desk.results.used_blobs() == set()


async def test_a_rollback_goes_back_to_what_was_deployed_and_not_to_a_best_model_that_was_not(desk: Any) -> None:
    for name, number in (("one", 1), ("two", 2)):
        last, best = [await desk.blob("models", f"{name} {what}".encode()) for what in ("last", "best")]
        task = await desk.task(name, model=last, model_round=9, best=_best(best, 3), completion_time=f"{number}")
        await desk.results.register(task, View())
    model = desk.store.get(Model, "m")
    assert ([each.round for each in model.status.versions], resolve(model).version) == ([3, 9, 3, 9], 4)
    back = roll_back(model, Rollback(name="m"), "somebody", "now")
    assert resolve(back).version == 2
    assert {2, 3, 4} <= referred(model)
