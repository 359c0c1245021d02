"""The loops of incremental learning of an agent, in virtual time, with a label queue and workers that a test plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import (
    Candidate,
    Desired,
    EdgeLoop,
    Generation,
    InferenceStats,
    LearnTask,
    WorkerReport,
)
from heliograph.bus.contract.payloads.labels import TEXT
from heliograph.bus.contract.resources import EdgeLearning, IncrementalLearningJobSpec, WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.topics import INFERENCE_STATS, Topic
from heliograph.bus.contract.weights_file import write
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.edge_loops import EdgeLoops
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.incremental.shards import LabelledSample

EDGE, JOB, UID = "edge-1", "digits", "uid-1"
BASE, OTHER = (WeightsRef(digest=letter * 64, size=8) for letter in "12")


class Queue:
    """A label queue on the node with five labelled texts; the samples of ``gone`` are deleted."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.read: list[str] = []

    def listen(self, changed: Callable[[], None]) -> None: ...

    def settled(self, name: str) -> list[str]:
        return [sha256(b"%d" % number).hexdigest() for number in range(5)]

    def schema_of(self, name: str) -> LabelSchema:
        return LabelSchema(classes=["cat", "dog"])

    async def labelled(self, name: str, tasks: Sequence[str], classes: Sequence[str]) -> list[LabelledSample]:
        self.read += tasks
        return [LabelledSample(task, TEXT, b"a text", 0) for task in tasks if task not in self.gone]


class Staged:
    """The files that workers have staged: none, all are in their events."""

    async def staged(self, worker: str, digest: str) -> Path | None:
        return None


class Loops:
    """An agent's loops on a node; ``begun`` counts the rounds that began."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self._numbers = count(1)
        self._directory = directory
        self.queue = Queue()
        self.ahead = 0.0
        """Seconds by which the node's clock goes ahead."""
        self.expected: list[str] = []
        """Lines that the agent logs."""
        self.reported: list[WorkerReport] = []
        """What the agent reports of its workers."""
        self._start()

    def _start(self) -> None:
        node = self.node
        world = replace(node.world, now=lambda: node.loop.time() + self.ahead)
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, world, 1 << 20, node.logged.append)
        files = LoopFiles(self._directory, Staged(), world)  # type: ignore[arg-type]
        self.loops = EdgeLoops(self.journal, self.queue, files, world, lambda: self.reported,  # type: ignore[arg-type]
                               lambda: None, Failures(node.logged.append))  # fmt: skip
        self._running = node.start(self.loops.run())

    async def restart(self, **job: Any) -> None:
        """Begin the agent's next life, and follow the job again."""
        await self.close()
        self._start()
        self.follow(UID, **job)
        await self.node.settled()

    def follow(self, uid: str = "", train: Any = None, **fields: Any) -> None:
        """Follow the job of a uid; without one no job."""
        learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
        spec = IncrementalLearningJobSpec.model_validate(
            {"models": [learned], "location": "edge", "train": train or {"newSamples": 1000}, **fields}
        )
        loops = {JOB: EdgeLoop(uid=uid, queue=JOB, spec=spec, models={"m": BASE}, services={"m": [JOB]})} if uid else {}
        self.loops.follow(Desired(edge=EDGE, generation=Generation(n=1), loops=loops), is_present=True)

    def take(self, topic: Topic[Any], payload: Any) -> NewEvent:
        """Return what is journalled of a worker's event."""
        number = next(self._numbers)
        at = (topic.at(service=JOB, edge=EDGE, worker="serve") if topic is INFERENCE_STATS
              else topic.at(job=JOB, edge=EDGE))  # fmt: skip
        event = Event(f"id-{number}", f"{EDGE}/worker/life", topic.type, payload.model_dump(exclude_none=True), "", at,
                      sequence=number)  # fmt: skip
        return self.loops.hold_back(topic, event, NewEvent(at, b"the whole event", 1))

    def sees(self, model: WeightsRef, **drift: float) -> None:
        """Take the counts of the worker that serves a model, with the times of its drifts."""
        seen = {f"scores/{name.replace('_', '-')}": time for name, time in drift.items()}
        self.take(INFERENCE_STATS, InferenceStats(
            service=JOB, service_uid="s", edge=EDGE, worker="serve", incarnation="1", model=model.digest, drift=seen,
        ))  # fmt: skip
        self.loops.look()

    async def sends(self, topic: Topic[Any], payload: Any) -> None:
        """Journal a worker's event, and let the loop take it."""
        for key, body in self.take(topic, payload).documents.items():
            await self.journal.save(key, body)
        self.loops.look()
        await self.node.settled()

    async def passes(self, seconds: float) -> None:
        await self.node.world.sleep(seconds)
        await self.node.settled()

    @property
    def state(self) -> EdgeLearning:
        return self.loops.reports()[JOB].state

    @property
    def task(self) -> LearnTask:
        """The task of the learn worker."""
        (task,) = self.loops.applied(Desired(edge=EDGE, generation=Generation(n=1))).tasks
        assert isinstance(task, LearnTask)
        return task

    async def rounds(self) -> int:
        await self.node.settled()
        return self.state.round

    async def close(self) -> None:
        await cancel_and_wait(self._running)
        self.journal.close()


def candidate_of(uid: str, **changes: Any) -> Candidate:
    weights = write({"w": np.zeros(2, np.float32)}, Path("/nonexistent"))
    assert weights.inline is not None
    fields: dict[str, Any] = {"round": 1, "attempt": 1, "base": BASE.digest, "weights": weights, "memory": weights}
    return Candidate(job=JOB, job_uid=uid, edge=EDGE, model="m", **{**fields, **changes})
