"""The intake of updates while a round's participants change."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliograph.bus.blob_sources import Uploads
from heliograph.bus.blob_store import BlobHolder
from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps, write
from heliograph.bus.contract.weights_header import Tensor
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Message
from heliograph.core.errors import Damaged, NotHeld
from heliograph.core.world import World
from heliograph.workers.aggregation.checks import check_weights, largest_size
from heliograph.workers.aggregation.intake import FETCHES, MAX_AHEAD, SAID, Intake
from heliograph.workers.aggregation.round import Collection
from tests.patience import HANGS


def _intake(bus: Any, world: World, place: Path) -> Intake:
    port = Port(bus, world, "cloud")
    return Intake(port, Uploads(port), place)


def _asked(*participants: str) -> RoundSpec:
    return RoundSpec(participants=[*participants], reachable=[*participants], deadline_seconds=60)


def _update(edge: str, place: Path) -> Received[ModelUpdate]:
    return _received(edge, write({"w": np.ones(3, np.float32)}, place))


async def test_an_update_of_an_edge_that_is_asked_again_counts(tmp_path: Path) -> None:
    world, nobody = World(), cast(Any, None)
    intake = _intake(nobody, world, tmp_path)
    collection = Collection("u", 0, None, _asked("edge-1"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    # edge-1 is gone, and edge-2 is asked instead; then edge-1's earlier update arrives
    intake.change_participants(_asked("edge-2"))
    intake.receive(_update("edge-1", tmp_path), 1)
    assert collection.close_reason(0) is None and not collection.refused
    # edge-2 is gone too, and edge-1 is back: its earlier update is its answer
    intake.change_participants(_asked("edge-1"))
    async with asyncio.timeout(HANGS):
        while not collection.staged:
            intake.changed.clear()
            await intake.changed.wait()
    assert set(collection.staged) == {"edge-1"}
    assert collection.close_reason(0) == "complete"


async def test_updates_between_two_rounds_wait_for_the_next_one(tmp_path: Path) -> None:
    world, nobody = World(), cast(Any, None)
    intake = _intake(nobody, world, tmp_path)
    intake.receive(_update("edge-1", tmp_path), 7)
    assert intake.next_sequence == 7
    collection = Collection("u", 0, None, _asked("edge-1", "edge-2"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    assert set(collection.staging) == {"edge-1"}
    intake.receive(_update("edge-3", tmp_path), 8)
    assert intake.close() is collection
    assert [each.edge for each in collection.late] == ["edge-1"]
    assert [each.edge for each in collection.refused] == ["edge-3"]


async def test_an_update_that_comes_late_is_noted_with_the_seconds_since_its_deadline_or_close(tmp_path: Path) -> None:
    nobody, clock = cast(Any, None), [0.0]
    world = replace(World(), monotonic=lambda: clock[0])
    intake = _intake(nobody, world, tmp_path)

    def begin(round: int, *reachable: str) -> Collection:
        asked = _asked("edge-1", "edge-2", "edge-3").model_copy(update={"reachable": [*reachable]})
        collection = Collection("u", round, None, asked, 1, began=clock[0])
        intake.begin(collection, lambda source, target: check_weights(source, None))
        return collection

    def late(*edges: str, round: int) -> None:
        for edge in edges:
            received = _update(edge, tmp_path)
            payload = received.payload.model_copy(update={"round": round})
            intake.receive(replace(received, payload=payload), 1)

    begin(1, "edge-1", "edge-2")
    clock[0] = 70.0
    intake.close()  # 10 s after its deadline, with the first update
    clock[0] = 72.0
    second = begin(2, "edge-1", "edge-2", "edge-3")
    clock[0] = 75.0
    late("edge-2", "edge-3", round=1)  # edge-3 was cut off when the round ended
    intake.close()  # before its deadline
    late("edge-1", round=2)  # it waits for the next round to be judged
    clock[0] = 79.0
    third = begin(3, "edge-1")
    late("edge-1", round=0)  # of a round that an earlier process closed
    assert [(each.edge, each.seconds_late) for each in second.late] == [("edge-2", 15.0), ("edge-3", None)]
    assert [(each.round, each.seconds_late) for each in third.late] == [(2, 0.0), (0, None)]


async def test_a_request_to_stop_is_kept_also_of_an_update_that_does_not_count(tmp_path: Path) -> None:
    world, nobody = World(), cast(Any, None)
    intake = _intake(nobody, world, tmp_path)
    collection = Collection("u", 1, None, _asked("edge-1", "edge-2"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))

    def stops(name: str, **changes: Any) -> None:
        received = _update(name, tmp_path)
        payload = received.payload.model_copy(update={"stop": True, "round": 1} | changes)
        intake.receive(replace(received, payload=payload), 1)

    stops("edge-1")
    stops("edge-2", round=0)  # late
    stops("edge-3", job_uid="another")
    stops("edge-4", edge="edge-1")  # on another's topic
    stops("edge-5", round=2)  # it is judged in its round
    assert collection.stopping == {"edge-1", "edge-2"}
    intake.close()
    following = Collection("u", 2, None, _asked("edge-5"), 1, began=0.0)
    intake.begin(following, lambda source, target: check_weights(source, None))
    assert following.stopping == {"edge-5"}
    intake.cancel()


async def test_an_update_that_declares_more_than_the_base_model_has_is_refused_unfetched(tmp_path: Path) -> None:
    world, nobody = World(), cast(Any, None)  # there is no store: a fetch would fail in another way
    intake = _intake(nobody, world, tmp_path)
    collection = Collection("u", 0, None, _asked("edge-1"), 1, began=0.0)
    layout = {"w": Tensor("w", "F32", (3,), 0, 12)}
    intake.begin(collection, lambda source, target: check_weights(source, layout), largest_size(layout))
    received = _update("edge-1", tmp_path)
    huge = WeightsRef(digest="e" * 64, size=largest_size(layout) + 1, bucket=upload_bucket("edge-1"))
    received.payload.weights = huge
    intake.receive(received, 1)
    async with asyncio.timeout(HANGS):
        while not collection.refused:
            intake.changed.clear()
            await intake.changed.wait()
    assert "field weights.size" in collection.refused[0].reason


@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), hnp.array_shapes(min_side=0)),
    st.text(max_size=20).filter(lambda name: name != "__metadata__"),
    st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=8),
)
def test_a_file_of_any_writer_fits_the_largest_size(array: Any, name: str, metadata: dict[str, str]) -> None:
    ours = dumps({name: array})
    with TensorFile(ours) as file:
        layout = file.tensors
    theirs = safetensors.numpy.save({name: array}, metadata)
    assert max(len(ours), len(theirs)) <= largest_size(layout)


class _Edges:
    """Edges of which one holds an upload; those of the others never come."""

    def __init__(self, digest: str, content: bytes) -> None:
        self._digest = digest
        self._content = content

    async def existing_blobs(self, bucket: str) -> None:
        return None

    async def fetch_from(self, holder: BlobHolder, ref: WeightsRef, target: Path, check: object) -> Path:
        if ref.digest != self._digest:
            raise NotHeld(f"blob {ref.digest[:12]} is not in {holder.name} yet")
        target.write_bytes(self._content)
        return target


async def test_the_bytes_that_came_count_once_whatever_becomes_of_their_updates(tmp_path: Path) -> None:
    content = dumps({"w": np.zeros(3, np.float32)})
    digest = hashlib.sha256(content).hexdigest()
    blob = WeightsRef(digest=digest, size=len(content), bucket=upload_bucket("blob"))
    inline = WeightsRef(digest=digest, size=len(content), inline=content)
    clock = [0.0]
    world = replace(World(), monotonic=lambda: clock[0])
    intake = _intake(cast(Any, _Edges(digest, content)), world, tmp_path)
    asked = ("blob", "inline", "never")
    collection = Collection("u", 0, None, _asked(*asked), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    clock[0] = 2.5
    intake.receive(_received("blob", blob), 1)
    for _ in range(2):  # a repeated event brings nothing new
        intake.receive(_received("inline", inline), 2)
    intake.receive(_received("inline", inline, job_uid="another"), 3)
    intake.receive(_received("uninvited", inline), 4)
    never = WeightsRef(digest="f" * 64, size=77_000, bucket=upload_bucket("never"))
    intake.receive(_received("never", never), 5)  # a claim that nobody has fetched is no byte
    async with asyncio.timeout(HANGS):
        while len(collection.staged) < 2:
            intake.changed.clear()
            await intake.changed.wait()
    intake.close()
    assert collection.uplink_bytes == 4 * len(content)
    assert collection.seconds == dict.fromkeys(asked, 2.5)


async def test_weights_that_never_come_hold_up_no_others(tmp_path: Path) -> None:
    content = dumps({"w": np.ones(3, np.float32)})
    good = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), bucket=upload_bucket("good"))
    said: list[str] = []
    world, edges = World(say=said.append), cast(Any, _Edges(good.digest, content))
    rogues = [f"rogue-{number}" for number in range(2 * FETCHES)]
    intake = _intake(edges, world, tmp_path)
    collection = Collection("u", 0, None, _asked(*rogues, "good"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    for edge in (*rogues, "good"):
        ref = good if edge == "good" else WeightsRef(digest="f" * 64, size=77_000, bucket=upload_bucket(edge))
        intake.receive(_received(edge, ref), 1)
    async with asyncio.timeout(HANGS):
        while "good" not in collection.staged:
            intake.changed.clear()
            await intake.changed.wait()
    intake.cancel()


class _Liar(_Edges):
    """An edge that sends other bytes than its update names."""

    def __init__(self) -> None:
        super().__init__("", b"")
        self.asked = 0

    async def fetch_from(self, holder: BlobHolder, ref: WeightsRef, target: Path, check: object) -> Path:
        self.asked += 1
        raise Damaged(f"blob {ref.digest[:12]} of {holder.name} arrived damaged")


async def test_an_edge_that_sends_other_bytes_is_asked_once_more_and_then_refused(tmp_path: Path) -> None:
    liar = _Liar()
    intake = _intake(liar, World(say=print), tmp_path)
    collection = Collection("u", 0, None, _asked("liar"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    intake.receive(_received("liar", WeightsRef(digest="f" * 64, size=77_000, bucket=upload_bucket("liar"))), 1)
    async with asyncio.timeout(HANGS):
        while not collection.refused:
            intake.changed.clear()
            await intake.changed.wait()
    assert "edge liar arrived damaged" in collection.refused[0].reason and liar.asked == 2


async def test_a_flood_of_one_edge_is_bounded_in_memory_and_in_the_log(tmp_path: Path) -> None:
    said: list[str] = []
    world, nobody = World(say=said.append), cast(Any, None)
    intake = _intake(nobody, world, tmp_path)
    for sequence in range(1, 1101):  # between two rounds: each might belong to the next one
        intake.receive(_received("rogue", WeightsRef(digest="f" * 64, size=77_000), job_uid="another"), sequence)
    assert intake.next_sequence == 1
    collection = Collection("u", 0, None, _asked("good"), 1, began=0.0)
    intake.begin(collection, lambda source, target: check_weights(source, None))
    assert len(collection.foreign) == MAX_AHEAD
    for sequence in range(1101, 2201):
        intake.receive(_received("rogue", WeightsRef(digest="f" * 64, size=77_000), job_uid="another"), sequence)
    assert len(collection.foreign) + collection.unnoted == MAX_AHEAD + 1100
    assert len(said) == SAID + 2  # the 100th and the 1000th too


def _received(edge: str, weights: WeightsRef, job_uid: str = "u") -> Received[ModelUpdate]:
    update = ModelUpdate(job="job", job_uid=job_uid, round=0, edge=edge, weights=weights, num_samples=1)
    topic = f"edge/{edge}/up/model-update/job"
    return Received(Message(topic, b""), Event("1", "s", "t", None), update, {"job": "job", "edge": edge})
