"""What a node's loops take from its workers' events, in virtual time: drifts of their own models, and the weights of
candidates, which stay here also when their job is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import Event, decode
from heliograph.bus.contract.payloads import Candidate, Desired, EdgeLoop, Generation, InferenceStats
from heliograph.bus.contract.payloads.labels import TEXT
from heliograph.bus.contract.resources import IncrementalLearningJobSpec, WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.topics import CANDIDATE, INFERENCE_STATS, Topic
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
    """A label queue on the node with five labelled texts."""

    def listen(self, changed: Callable[[], None]) -> None: ...

    def settled(self, name: str) -> list[str]:
        return [sha256(b"%d" % number).hexdigest() for number in range(5)]

    def schema_of(self, name: str) -> LabelSchema:
        return LabelSchema(classes=["cat", "dog"])

    async def labelled(self, name: str, tasks: Sequence[str], classes: Sequence[str]) -> list[LabelledSample]:
        return [LabelledSample(task, TEXT, b"a text", 0) for task in tasks]


class Loops:
    """An agent's loops on a node; ``begun`` counts the rounds that began."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self._numbers = count(1)
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, node.world, 1 << 20, node.logged.append)
        files = LoopFiles(directory, None, node.world)  # type: ignore[arg-type]  # nothing is staged here
        self.loops = EdgeLoops(EDGE, self.journal, Queue(), files, node.world, list, lambda: None,  # type: ignore[arg-type]
                               Failures(node.logged.append))  # fmt: skip
        self._running = node.start(self.loops.run())

    def follow(self, uid: str = "", train: Any = None) -> None:
        """Follow the job of a uid; without one no job."""
        learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
        spec = IncrementalLearningJobSpec.model_validate({"models": [learned], "location": "edge",
                                                         "train": train or {"newSamples": 1000}})  # fmt: skip
        loops = {JOB: EdgeLoop(uid=uid, queue=JOB, spec=spec, models={"m": BASE})} if uid else {}
        self.loops.follow(Desired(edge=EDGE, generation=Generation(n=1), loops=loops))

    def take(self, topic: Topic[Any], payload: Any) -> NewEvent:
        """Return what is journalled of a worker's event."""
        number = next(self._numbers)
        at = topic.at(job=JOB, edge=EDGE) if topic is CANDIDATE else topic.at(service=JOB, edge=EDGE, worker="serve")
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

    async def rounds(self) -> int:
        await self.node.settled()
        return self.loops.reports()[JOB].state.round

    async def close(self) -> None:
        await cancel_and_wait(self._running)
        self.journal.close()


@pytest.fixture
def on_loops(on_node: Any, tmp_path: Path) -> Callable[[Callable[[Loops], Any]], None]:
    def run_test(test: Callable[[Loops], Any]) -> None:
        async def main(node: Any) -> None:
            it = Loops(node, tmp_path)
            await test(it)
            await it.close()
            assert not node.logged, node.logged

        on_node(main)

    return run_test


def test_a_drift_of_the_served_model_begins_a_round(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"drift": {"of": "scores", "detector": "page-hinkley"}})
        assert await it.rounds() == 0
        now = it.node.world.now()
        it.sees(OTHER, page_hinkley=now + 1)  # a model of another job on this node
        assert await it.rounds() == 0
        it.sees(BASE, psi=now + 1)  # another detector than the job's
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now - 1)  # before the loop began
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now + 1)
        assert await it.rounds() == 1

    on_loops(test)


def _candidate(uid: str) -> Candidate:
    weights = write({"w": np.zeros(2, np.float32)}, Path("/nonexistent"))
    assert weights.inline is not None
    return Candidate(job=JOB, job_uid=uid, round=1, attempt=1, edge=EDGE, model="m", weights=weights, memory=weights)


def test_a_candidates_weights_stay_here_while_its_job_runs_and_after(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        of_job = it.take(CANDIDATE, _candidate(UID))
        assert len(of_job.documents) == 1 and b"inline" not in of_job.body  # the whole of it is the loop's
        it.follow()  # the job has ended, and its worker sends what it has just made
        await it.node.settled()
        late = it.take(CANDIDATE, _candidate(UID))
        told = CANDIDATE.validate(decode(late.body).data, late.topic)
        assert not late.documents and told.weights.inline is None and told.memory is None
        assert told.weights.digest == _candidate(UID).weights.digest  # what is told is that it was made
        it.follow("uid-2")  # another job of that name
        late = it.take(CANDIDATE, _candidate(UID))
        assert not late.documents and CANDIDATE.validate(decode(late.body).data, late.topic).memory is None

    on_loops(test)


def test_a_candidate_of_a_job_in_the_cloud_passes_whole(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        whole = it.take(CANDIDATE, _candidate("uid-of-the-cloud"))
        assert whole.body == b"the whole event" and not whole.documents

    on_loops(test)
