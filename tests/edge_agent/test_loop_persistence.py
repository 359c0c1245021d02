"""A node's loops in virtual time: what they keep through stops, failed rounds, full disks and documents that are older
than they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.payloads import Candidate, Desired, EdgeLoop, Generation, InferTask
from heliograph.bus.contract.payloads.labels import TEXT
from heliograph.bus.contract.resources import IncrementalLearningJobSpec, LoopState, ShardRef, WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.topics import CANDIDATE, Topic
from heliograph.bus.contract.weights_file import write
from heliograph.core.errors import HeliographError
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait, keep_running
from heliograph.edge_agent.edge_loops import EdgeLoops
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.edge_agent.loop_store import StoredLoop
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


class NoFiles:
    """Workers that have staged nothing."""

    async def staged(self, worker: str, digest: str) -> None:
        return None


class Loops:
    """An agent's loops on a node."""

    def __init__(self, node: Any, directory: Path) -> None:
        self.node = node
        self._numbers = count(1)
        self.journal = Journal(Path("/simulated/journal.db"), EDGE, node.world, 1 << 20, node.logged.append)
        self._files = LoopFiles(directory, NoFiles(), node.world)  # type: ignore[arg-type]
        self._open()

    def _open(self) -> None:
        self.loops = EdgeLoops(self.journal, Queue(), self._files, self.node.world, list, lambda: None,  # type: ignore[arg-type]
                               Failures(self.node.logged.append))  # fmt: skip
        self._running = self.node.start(keep_running(self.loops.run, self.node.world, self.node.logged.append))

    async def restart(self) -> None:
        """End the agent, and start it again on its journal."""
        await cancel_and_wait(self._running)
        self._open()

    async def started_with(self, stored: StoredLoop) -> None:
        """Start on a journal that has this loop."""
        await self.journal.save(f"loop/{JOB}", stored.model_dump_json(exclude_defaults=True).encode())
        await self.restart()

    def stored(self) -> StoredLoop:
        return StoredLoop.from_json(self.journal.load(f"loop/{JOB}"))

    def follow(self, uid: str = "", train: Any = None, is_present: bool = True, **fields: Any) -> None:
        """Follow the job of a uid; without one no job."""
        learned = {"model": {"name": "m"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}
        spec = IncrementalLearningJobSpec.model_validate({"models": [learned], "location": "edge",
                                                         "train": train or {"newSamples": 1000}})  # fmt: skip
        loop = EdgeLoop.model_validate({"uid": uid, "queue": JOB, "spec": spec, "models": {"m": BASE}, **fields})
        self.desired = Desired(edge=EDGE, generation=Generation(n=1), loops={JOB: loop} if uid else {})
        self.loops.follow(self.desired, is_present)

    def take(self, topic: Topic[Any], payload: Any) -> NewEvent:
        """Return what is journalled of a worker's event."""
        number = next(self._numbers)
        at = topic.at(job=JOB, edge=EDGE)
        event = Event(f"id-{number}", f"{EDGE}/worker/life", topic.type, payload.model_dump(exclude_none=True), "", at,
                      sequence=number)  # fmt: skip
        return self.loops.hold_back(topic, event, NewEvent(at, b"the whole event", 1))

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


def _candidate(uid: str) -> Candidate:
    weights = write({"w": np.zeros(2, np.float32)}, Path("/nonexistent"))
    assert weights.inline is not None
    return Candidate(job=JOB, job_uid=uid, round=1, attempt=1, edge=EDGE, model="m", weights=weights, memory=weights)


AT_ONCE = {"newSamples": 5}


def test_a_stopped_loop_stays_as_it_is_and_goes_on_when_it_is_started(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 1
        await it.restart()
        it.follow(UID, AT_ONCE, stopped=True)
        assert await it.rounds() == 1
        assert it.loops.applied(it.desired).tasks == [], "its worker rests"
        it.take(CANDIDATE, _candidate(UID))
        await it.node.settled()
        assert it.stored().state.step == "training"
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 1
        (task,) = it.loops.applied(it.desired).tasks
        assert task.is_due, "the round goes on"

    on_loops(test)


@pytest.mark.parametrize("declared", [BASE, None], ids=["a-first-version", "no-version"])
def test_the_services_of_a_model_serve_this_nodes_own_version(on_loops: Any, declared: WeightsRef | None) -> None:
    async def test(it: Loops) -> None:
        await it.started_with(StoredLoop(uid=UID, own={"m": OTHER}))
        it.follow(UID, services={"m": ["eye"]}, models={"m": declared} if declared is not None else {})
        await it.node.settled()
        tasks = [InferTask(worker=name, job=name, job_uid="s", generation=1, model=declared) for name in ("eye", "ear")]
        applied = it.loops.applied(it.desired.model_copy(update={"tasks": tasks}))
        assert [each.model for each in applied.tasks] == [OTHER, declared], "ear runs another model"

    on_loops(test)


def test_what_a_failed_round_has_left_is_learned_without_further_samples(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        ids = b"".join(map(bytes.fromhex, Queue().settled("")))
        await it.journal.save(f"loop-ids/{UID}/1", ids)
        shard = ShardRef(number=1, samples=5, weights=OTHER)
        state = LoopState(round=1, shards=[shard], next_shard=2, failures=1, classes=["cat", "dog"])
        await it.started_with(StoredLoop(uid=UID, state=state))
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 2
        assert [each.number for each in it.stored().state.shards] == [1]

    on_loops(test)


def test_a_full_disk_at_the_begin_of_a_round_loses_no_sample(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        save, failing = it.journal.save, True

        async def full(key: str, value: bytes) -> None:
            if failing and key.startswith("loop/") and b'"round":1' in value:
                raise HeliographError("database or disk is full")
            await save(key, value)

        it.journal.save = full  # type: ignore[method-assign]
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 0
        assert it.loops.reports()[JOB].state.waiting == 5
        failing = False
        await it.node.world.sleep(10.0)
        assert await it.rounds() == 1
        assert sum(each.samples for each in it.stored().state.shards) == 5
        it.node.logged.clear()

    on_loops(test)


def test_a_document_from_before_a_loop_deletes_neither_it_nor_its_files(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        await it.started_with(StoredLoop(uid=UID, own={"m": OTHER}))
        it.follow(is_present=False)  # the disk was full when the newer one came
        await it.node.settled()
        assert it.loops.needed == {OTHER.digest} and it.stored().uid == UID
        it.follow(is_present=True)  # the job was deleted while this agent was away
        it.loops.look()
        await it.node.settled()
        assert not it.loops.needed and not it.journal.load(f"loop/{JOB}")

    on_loops(test)


def test_a_candidate_whose_file_is_gone_is_trained_once_more(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 1
        gone = _candidate(UID).model_copy(update={"weights": OTHER, "memory": None, "base": BASE.digest})
        entry = it.take(CANDIDATE, gone)
        await it.journal.append(entry)
        await it.node.settled()
        candidate = it.stored().state.candidates["m"]
        assert (candidate.step, candidate.attempt) == ("training", 2) and not [*it.journal.documents("loop-inbox/")]
        it.node.logged.clear()  # what was refused is said

    on_loops(test)


def test_a_candidate_is_taken_when_it_is_on_the_disk(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, AT_ONCE)
        assert await it.rounds() == 1
        it.node.loop.disk_seconds = 0.01
        entry = it.take(CANDIDATE, _candidate(UID).model_copy(update={"base": BASE.digest}))
        it.journal.append(entry)
        await it.node.world.sleep(1.0)
        assert it.stored().state.step == "evaluating"

    on_loops(test)
