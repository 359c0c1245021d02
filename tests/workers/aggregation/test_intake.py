"""The intake of updates while a round's participants change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec
from heliograph.bus.contract.weights_file import write
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Message
from heliograph.core.world import World
from heliograph.workers.aggregation.checks import check_weights
from heliograph.workers.aggregation.intake import Intake
from heliograph.workers.aggregation.model_files import ModelFiles
from heliograph.workers.aggregation.round import Collection
from tests.patience import HANGS


def _asked(*participants: str) -> RoundSpec:
    return RoundSpec(participants=[*participants], reachable=[*participants], deadline_seconds=60)


def _update(edge: str, place: Path) -> Received[ModelUpdate]:
    weights = write({"w": np.ones(3, np.float32)}, place)
    update = ModelUpdate(job="job", job_uid="u", round=0, edge=edge, weights=weights, num_samples=1)
    topic = f"event/model-update/job/{edge}"
    return Received(Message(topic, b""), Event("1", "s", "t", None), update, {"job": "job", "edge": edge})


async def test_an_update_of_an_edge_that_is_asked_again_counts(tmp_path: Path) -> None:
    world, nobody = World(), cast(Any, None)
    intake = Intake(Port(nobody, world, "cloud"), ModelFiles(nobody, world, tmp_path), tmp_path)
    collection = Collection("u", 0, None, _asked("edge-1"), 1, began=0.0)
    intake.begin(collection, lambda source: check_weights(source, None))
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
    intake = Intake(Port(nobody, world, "cloud"), ModelFiles(nobody, world, tmp_path), tmp_path)
    intake.receive(_update("edge-1", tmp_path), 7)
    assert intake.next_sequence == 7
    collection = Collection("u", 0, None, _asked("edge-1", "edge-2"), 1, began=0.0)
    intake.begin(collection, lambda source: check_weights(source, None))
    assert set(collection.staging) == {"edge-1"}
    intake.receive(_update("edge-3", tmp_path), 8)
    assert intake.close() is collection
    assert [each.edge for each in collection.late] == ["edge-1"]
    assert [each.edge for each in collection.refused] == ["edge-3"]
