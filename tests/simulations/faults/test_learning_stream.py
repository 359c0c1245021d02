"""The evidence of a learning stream is of one instant, though its labeller goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract import buckets
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.simulations.faults.learning_invariants import check_learning
from heliograph.simulations.faults.learning_stream import LearningStream
from tests.patience import HANGS

QUEUE = "a1"


def document(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": kind, "metadata": {"name": "stream", "uid": "b2"}, "spec": spec}


def named(answer: dict[str, Any], before: Callable[[], Awaitable[None]] | None = None) -> Any:
    """Return a stand-in of the client's resources that answers ``get``."""

    async def get(name: str) -> dict[str, Any]:
        if before is not None:
            await before()
        return answer

    return SimpleNamespace(get=get)


async def test_a_label_that_is_accepted_while_the_evidence_is_read_belongs_to_later_evidence() -> None:
    world = World()
    async with connect("memory://late-label", world=world) as bus:
        await bus.link.wait_up(HANGS)
        await bus.kv(buckets.LABELS)
        worker = {"trainScriptBootFile": "learn.py"}
        job = document("IncrementalLearningJob", {
            "models": [{"model": {"name": "stream"}, "nodeName": "edge-1", "workerSpec": worker}],
            "train": {"newSamples": 20},
        })  # fmt: skip
        client = SimpleNamespace(
            bus=bus, models=named(document("Model", {})), labels=named({"metadata": {"uid": QUEUE}}),
            incremental_jobs=named(job, lambda: accept()),
        )  # fmt: skip
        stream = LearningStream(client, {}, world, 1, print)  # type: ignore[arg-type]

        async def accept() -> None:
            stream._accepted.add("late")

        evidence = await stream.evidence()
        assert evidence.accepted == {CLOUD: set()}
        assert check_learning(evidence) == []
        assert (await stream.evidence()).accepted == {CLOUD: {"late"}}

