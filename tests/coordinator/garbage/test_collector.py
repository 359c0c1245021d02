"""A collection: it takes what has come to the end of its life and nothing else, and a dry run says the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import close_record
from heliograph.bus.contract.garbage import LISTED, Garbage
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    FederatedTask,
    JointInferenceService,
    Metadata,
    Model,
    ModelVersion,
    PinnedPackage,
    Resource,
    WeightsRef,
)
from heliograph.bus.contract.resources.model import ModelStatus
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, InstalledFeatures
from heliograph.coordinator.garbage.collector import Collector, summary
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background
from heliograph.core.world import World, rfc3339

DAY = 86400.0


class Desk:
    """A store, blobs and close records in memory, with a clock that the test sets."""

    def __init__(self, bus: Bus, directory: Path, world: World, clock: dict[str, float]) -> None:
        self.bus = bus
        self.clock = clock
        self.world = world
        self._directory = directory
        self._locks: dict[str, asyncio.Lock] = {}
        self.said: list[str] = []

    async def open(self, lives: Lives) -> Desk:
        bus = self.bus
        self.store = ResourceStore(await bus.kv("resources"), self.world)
        context = ControllerContext(
            Port(bus, self.world, "cloud/coordinator/1"), self.store,
            ModelVersions(bus, self.store, self._lock, self.save), Background(print), View, self._lock,
            lambda resource: None, self._nothing, print, print, Failures(self.said.append), pytest.fail,
        )  # fmt: skip
        features = InstalledFeatures(context)
        for feature in features:
            await feature.prepare()
        self.rounds = await bus.kv("rounds")
        self.collector = Collector(bus, self.store, features, lives, self.world, Failures(self.said.append),
                                   self.said.append)  # fmt: skip
        return self

    async def save(self, resource: Resource) -> None:
        known = self.store.get(type(resource), resource.name) is not None
        await (self.store.put(resource) if known else self.store.create(resource))

    async def blob(self, content: str, bucket: str = "models") -> WeightsRef:
        file = self._directory / sha256(content.encode()).hexdigest()
        file.write_text(content)
        ref = WeightsRef(digest=file.name, size=len(content))
        return await (await self.bus.blobs(bucket)).put(file, ref)

    async def model(self, name: str, *contents: str, **status: Any) -> Model:
        versions = [ModelVersion(version=number, weights=await self.blob(content))
                    for number, content in enumerate(contents, 1)]  # fmt: skip
        model = Model(metadata=Metadata(name=name), status=ModelStatus(versions=versions, **status))
        await self.save(model)
        return model

    async def job(self, name: str, phase: str, rounds: dict[int, Aggregation], ended: float = 0.0) -> FederatedTask:
        task = parse_resource({"kind": "FederatedTask", "metadata": {"name": name},
                               "spec": {"aggregationWorker": {"model": {"name": "m"}},
                                        "trainingWorkers": [{"name": "w"}]}})  # fmt: skip
        assert isinstance(task, FederatedTask)
        await self.store.create(task)
        task = self.task(name)
        status = {"phase": phase, "round": max(rounds, default=0),
                  "completion_time": rfc3339(ended) if ended else ""}  # fmt: skip
        await self.store.put(task.model_copy(update={"status": task.status.model_copy(update=status)}))
        for number, closed in rounds.items():
            await self.rounds.put(close_record.key_of(task.metadata.uid, number), close_record.dump(closed))
        return self.task(name)

    def task(self, name: str) -> FederatedTask:
        found = self.store.get(FederatedTask, name)
        assert found is not None
        return found

    def versions(self, name: str) -> list[int]:
        found = self.store.get(Model, name)
        assert found is not None
        return [each.version for each in found.status.versions]

    async def lying(self) -> set[str]:
        return set(await (await self.bus.blobs("models")).digests())

    def _lock(self, plural: str, name: str) -> asyncio.Lock:
        return self._locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def _nothing(self) -> None:
        """Write nothing: there is no edge."""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = {"now": 1000 * DAY}
    world = World(now=lambda: clock["now"])
    async with connect(f"memory://collector-{world.new_id()}", world=world) as bus:
        yield await Desk(bus, tmp_path, world, clock).open(Lives(versions=2))


def _closed(round: int, model: WeightsRef | None, **more: Any) -> Aggregation:
    return Aggregation(job="j", job_uid="uid", round=round, model=model, counted={"edge-1": "a"}, reason="complete",
                       **more)  # fmt: skip


def _names(found: Garbage, kind: str) -> list[str]:
    return [each.name for each in found.items if each.kind == kind]


async def test_an_old_version_goes_with_its_weights_and_a_dry_run_names_both(desk: Desk) -> None:
    model = await desk.model("m", "one", "two", "three", "four", aliases={"favourite": 2})
    one = model.status.versions[0].weights.digest
    desk.clock["now"] += 2 * DAY
    tried = await desk.collector.collect(dry_run=True)
    assert (desk.versions("m"), len(await desk.lying())) == ([1, 2, 3, 4], 4)
    done = await desk.collector.collect()
    assert tried == done.model_copy(update={"dry_run": True})
    assert (_names(done, "version"), _names(done, "blob")) == (["m/1"], [one])
    assert done.items[0].reason == "not among the newest 2, deployed nowhere, and no alias names it"
    assert done.items[1].reason == "nothing names it; stored 48 hours ago"
    assert (desk.versions("m"), one in await desk.lying(), done.size) == ([2, 3, 4], False, 3)
    assert summary(done) == "1 version, 1 blob, 0.0 MB"
    assert (await desk.collector.collect()).items == []


async def test_weights_that_another_version_shares_stay(desk: Desk) -> None:
    await desk.model("m", "same", "two", "three")
    await desk.model("other", "same")
    desk.clock["now"] += 2 * DAY
    for dry_run in (True, False):
        found = await desk.collector.collect(dry_run)
        assert (_names(found, "version"), _names(found, "blob")) == (["m/1"], [])


async def test_a_blob_that_nothing_names_yet_stays_while_it_is_young(desk: Desk) -> None:
    ref = await desk.blob("on its way into a document")
    desk.clock["now"] += 0.9 * DAY
    assert (await desk.collector.collect()).items == []
    await desk.blob("on its way into a document")  # again: somebody wants it
    desk.clock["now"] += 0.9 * DAY
    assert (await desk.collector.collect()).items == []
    desk.clock["now"] += 0.2 * DAY
    assert _names(await desk.collector.collect(), "blob") == [ref.digest]


async def test_a_running_job_keeps_what_its_last_rounds_left(desk: Desk) -> None:
    refs = [await desk.blob(text) for text in ("model", "state", "down", "mine", "long ago")]
    await desk.job("runs", "Running", {
        1: _closed(1, refs[4]), 7: _closed(7, refs[0], state=refs[1], down=refs[2], personal={"edge-1": refs[3]})
    })  # fmt: skip
    desk.clock["now"] += 2 * DAY
    assert _names(await desk.collector.collect(), "blob") == [refs[4].digest]
    assert await desk.lying() == {ref.digest for ref in refs[:4]}


async def test_a_package_stays_while_an_algorithm_names_it_or_a_running_job_began_with_it(desk: Desk) -> None:
    named, pinned, left = [await desk.blob(text, "packages") for text in ("named", "pinned", "left")]
    package = {"digest": named.digest, "size": named.size, "entryPoint": "train.py"}
    await desk.save(parse_resource({"kind": "Algorithm", "metadata": {"name": "a"}, "spec": {"package": package}}))
    task = await desk.job("runs", "Running", {})
    pins = {"packages": {"b": PinnedPackage(digest=pinned.digest, size=pinned.size)}}
    await desk.store.put(task.model_copy(update={"status": task.status.model_copy(update=pins)}))
    desk.clock["now"] += 2 * DAY
    assert _names(await desk.collector.collect(), "blob") == [left.digest]


async def test_uploaded_samples_go_once_their_data_set_has_others(desk: Desk) -> None:
    named, left = [await desk.blob(text, "datasets") for text in ("named", "left")]
    content = {"file": "rows.csv", "digest": named.digest, "size": named.size, "bucket": "datasets"}
    await desk.save(parse_resource({"kind": "Dataset", "metadata": {"name": "d"}, "spec": {"content": content}}))
    desk.clock["now"] += 2 * DAY
    assert _names(await desk.collector.collect(), "blob") == [left.digest]


async def test_a_package_stays_while_a_service_runs_it(desk: Desk) -> None:
    pinned, left = [await desk.blob(text, "packages") for text in ("pinned", "left")]
    spec = {"edgeWorker": {"model": {"name": "m"}, "algorithm": {"name": "a"}}}
    made = parse_resource({"kind": "JointInferenceService", "metadata": {"name": "s"}, "spec": spec})
    assert isinstance(made, JointInferenceService)
    pins = {"packages": {"a": PinnedPackage(digest=pinned.digest, size=pinned.size)}}
    await desk.save(made.model_copy(update={"status": made.status.model_copy(update=pins)}))
    desk.clock["now"] += 2 * DAY
    assert _names(await desk.collector.collect(), "blob") == [left.digest]


async def test_records_of_ended_and_of_deleted_jobs_go_after_their_time(desk: Desk) -> None:
    now = desk.clock["now"]
    ended = await desk.job("ended", "Succeeded", {1: _closed(1, None), 2: _closed(2, None)}, ended=now)
    gone = await desk.job("gone", "Stopped", {1: _closed(1, None)}, ended=now)
    await desk.store.delete(gone)  # a coordinator that was killed has left its record
    assert (await desk.collector.collect()).items == []  # it may be of a job that this coordinator does not know yet
    desk.clock["now"] += 2 * DAY
    assert _names(await desk.collector.collect(), "round") == [close_record.key_of(gone.metadata.uid, 1)]
    desk.clock["now"] += 29 * DAY
    assert _names(await desk.collector.collect(), "round") == [
        close_record.key_of(ended.metadata.uid, number) for number in (1, 2)
    ]
    assert await desk.rounds.keys() == []


async def test_nothing_that_an_unreadable_document_may_name_is_taken(desk: Desk) -> None:
    await desk.model("m", "one", "two", "three")
    ref = await desk.blob("whose")
    await desk.rounds.put("unknown-uid.1", close_record.dump(_closed(1, None)))
    kv = await desk.bus.kv("resources")
    await kv.put("jobs.odd", b"{")
    await desk.store.load()
    desk.clock["now"] += 2 * DAY
    found = await desk.collector.collect()
    assert _names(found, "version") == ["m/1"]
    assert (_names(found, "blob"), _names(found, "round")) == ([], [])
    assert ref.digest in await desk.lying()
    assert found.notes == ["blobs stay while 1 documents are in quarantine, since nobody knows what they name; see "
                           "'heliograph get quarantines'"]  # fmt: skip


async def test_an_alias_that_moves_meanwhile_keeps_its_version(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.model("m", "one", "two", "three")
    get = desk.store.get

    def moved(kind: Any, name: str) -> Any:
        found = get(kind, name)
        if kind is Model and found is not None and not found.status.aliases:
            return found.model_copy(update={"status": found.status.model_copy(update={"aliases": {"late": 1}})})
        return found

    monkeypatch.setattr(desk.store, "get", moved)
    found = await desk.collector.collect()
    assert (found.items, desk.versions("m")) == ([], [1, 2, 3])


async def test_one_collection_is_bounded_and_says_that_there_is_more(desk: Desk) -> None:
    for number in range(LISTED + 5):
        await desk.rounds.put(f"gone.{number}", b"{}")
    desk.clock["now"] += 2 * DAY
    found = await desk.collector.collect()
    assert (len(found.items), found.more) == (LISTED, True)
    found = await desk.collector.collect()
    assert (len(found.items), found.more) == (5, False)


async def test_a_feature_that_cannot_say_what_it_needs_stops_the_collection(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await desk.blob("whose")
    desk.clock["now"] += 2 * DAY

    async def broken(prefix: str = "") -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(type(desk.rounds), "keys", lambda self, prefix="": broken(prefix))
    with pytest.raises(ZeroDivisionError):
        await desk.collector.collect()
    assert ref.digest in await desk.lying()
