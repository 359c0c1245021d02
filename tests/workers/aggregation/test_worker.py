"""The aggregation worker's hands: what it does with updates while a round's participants change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import AggregateTask, Assignment, ModelUpdate, RoundSpec
from heliograph.bus.contract.weights_file import write
from heliograph.bus.port import Received
from heliograph.bus.transport import Message
from heliograph.core.world import World
from heliograph.workers.aggregation.round import Collection
from heliograph.workers.aggregation.worker import Aggregator
from heliograph.workers.algorithms import choose
from heliograph.workers.runtime import Runtime


def _task(*participants: str) -> AggregateTask:
    collect = RoundSpec(participants=[*participants], reachable=[*participants], deadline_seconds=60)
    return AggregateTask(worker="job-aggregate", job="job", job_uid="u", round=0, collect=collect)


def _update(edge: str, place: Path) -> Received[ModelUpdate]:
    weights = write({"w": np.ones(3, np.float32)}, place)
    update = ModelUpdate(job="job", job_uid="u", round=0, edge=edge, weights=weights, num_samples=1)
    topic = f"event/model-update/job/{edge}"
    return Received(Message(topic, b""), Event("1", "s", "t", None), update, {"job": "job", "edge": edge})


async def test_an_update_of_an_edge_that_is_asked_again_counts(tmp_path: Path) -> None:
    launch = SimpleNamespace(directory=tmp_path, models=tmp_path)
    aggregator = Aggregator(cast(Runtime, SimpleNamespace(launch=launch, world=World(), bus=None)))
    aggregator._parameters, aggregator._combine = choose("FedAvg", {})
    aggregator._task = _task("edge-1")
    assert aggregator._task.collect is not None
    collection = Collection("u", 0, None, aggregator._task.collect, 1, began=0.0)
    aggregator._collection = collection
    nobody = cast(Any, None)
    # edge-1 has gone, edge-2 is asked in its place; then what edge-1 had sent arrives
    await aggregator._assigned(Assignment(task=_task("edge-2"), edge="cloud"), nobody)
    aggregator._take(_update("edge-1", tmp_path), 1)
    assert collection.close_reason(0) is None and not collection.refused
    # edge-2 has gone, too, and edge-1 is back: what it has sent is its answer
    await aggregator._assigned(Assignment(task=_task("edge-1"), edge="cloud"), nobody)
    async with asyncio.timeout(5):
        while not collection.staged:
            await aggregator._changed.wait()
            aggregator._changed.clear()
    assert set(collection.staged) == {"edge-1"}
    assert collection.close_reason(0) == "complete"
