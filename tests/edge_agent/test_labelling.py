"""Label queues on the edge: samples stay on the node, leases lie in the journal, and no link is needed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.payloads import Desired, EdgeQueue, Generation, HardSample, TrainTask
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.bus.contract.weights_file import dumps
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.gateway import Gateway
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.labelling import EdgeLabelling
from heliograph.edge_agent.loop_store import LoopStore, StoredLoop
from heliograph.edge_agent.producers import ProducerWatch
from heliograph.edge_agent.supervised_worker import Worker

EDGE, SECRET = "edge-1", b"s" * 32
SPEC = LabelQueueSpec.model_validate({"labelSchema": {"classes": ["cat", "dog"]}, "leaseSeconds": 60})
QUEUES = {"job": EdgeQueue(uid="uid", spec=SPEC)}
OTHER = EdgeQueue(uid="uid-2", spec=SPEC)


class Labelled:
    """An agent's gateway and label queues on a node with no link to the cloud."""

    def __init__(self, node: Any, quota: int = 1 << 20, file: Path | None = None) -> None:
        self.node = node
        self.quota = quota
        self.path = file or Path("/simulated/journal.db")
        self.disk = replace(node.world, database=World().database) if file else node.world
        self.queues = QUEUES
        self.refused: list[str] = []
        self.errors: list[Any] = []
        self.replies = node.heard(node.broker, "reply/#")
        self._numbers = {"job": count(1), "other": count(1)}
        self._open()

    def _open(self) -> None:
        node = self.node
        self.journal = Journal(self.path, EDGE, self.disk, self.quota, node.logged.append)

        def refused(topic: str, error: Exception) -> None:
            self.refused.append(f"{topic}: {error}")
            self.errors.append(error)

        self.labelling = EdgeLabelling(node.node, EDGE, self.journal, refused, Failures(node.logged.append))
        self.follow(self.queues, is_present=False)
        workers = {job: Worker(TrainTask(worker=job, job=job, job_uid="u", round=1), SECRET) for job in self._numbers}
        watch = ProducerWatch(node.logged.append)
        gateway = Gateway(node.node, EDGE, self.journal, workers, node.background, refused, watch,
                          self.labelling.hold_back)  # fmt: skip
        self._running = [node.start(part()) for part in (gateway.run, self.labelling.run, self.labelling.keep)]

    def follow(self, queues: dict[str, EdgeQueue], is_present: bool = True, n: int = 1, **more: Any) -> None:
        desired = Desired(edge=EDGE, generation=Generation(n=n), label_queues=queues)
        self.labelling.follow(desired.model_copy(update=more), is_present)

    async def restart(self, queues: dict[str, EdgeQueue] | None = None) -> None:
        """End the agent as a power failure does, and start it again, with other queues where they are given."""
        await cancel_and_wait(*self._running)
        self.journal.close()
        self.queues = self.queues if queues is None else queues
        self._open()
        await self.node.settled()

    async def close(self) -> None:
        await cancel_and_wait(*self._running)
        self.journal.close()

    async def capture(self, text: str, tensor: bytes | None = None, job: str = "job") -> str:
        """Publish a hard sample as the node's worker of a job does."""
        number = next(self._numbers[job])
        digest = sha256(tensor or text.encode()).hexdigest()
        sample = HardSample(job=job, edge=EDGE, sample=digest, text=text or None, tensor=tensor, scores=[0.4, 0.6])
        topic = topics.HARD_SAMPLE.at(job=job, edge=EDGE)
        data = sample.model_dump(exclude_none=True)
        event = Event(f"{job}-{number}", f"{EDGE}/{job}/life", topics.HARD_SAMPLE.type, data, "", topic,
                      sequence=number)  # fmt: skip
        self.node.publish(topic, encode(event, key=SECRET))
        await asyncio.sleep(1)
        return digest

    async def ask(self, verb: str, **fields: Any) -> Any:
        body = {"name": "job", "reply_to": "heliograph/reply/anna/1", **fields}
        self.node.publish(f"request/labels/{verb}", json.dumps(body).encode())
        await asyncio.sleep(1)
        assert self.replies, (self.refused, self.node.logged)
        return json.loads(self.replies.pop().body)

    async def claimed_later(self, labeller: str) -> Any:
        """Return the tasks that a labeller is given, on a disk that is slow to note it."""
        self.node.publish("request/labels/claim", json.dumps(
            {"name": "job", "reply_to": "heliograph/reply/anna/1", "labeller": labeller}
        ).encode())  # fmt: skip
        await asyncio.sleep(60)
        return json.loads(self.replies.pop().body)["result"]["tasks"]

    async def left(self, uid: str = "") -> int:
        """Return how many documents of label queues, or of one, the journal has once the agent has looked."""
        await asyncio.sleep(3)
        return sum(key.partition("/")[2].startswith(uid) for key, _ in self.journal.documents("label"))

    def kept(self, lane: int) -> list[Event]:
        return [decode(each.body) for each in self.journal.read(lane, 0, 10**6, 10**9).events]


def _labelled(on_node: Callable[..., Any], test: Callable[[Labelled], Any], **options: Any) -> None:
    async def main(node: Any) -> None:
        it = Labelled(node, **options)
        await node.settled()
        await test(it)
        await it.close()

    on_node(main)


def test_a_sample_is_labelled_on_its_node_and_does_not_leave_it(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        task = await it.capture("secret")
        await it.capture("secret")  # the same sample again
        claimed = (await it.ask("claim", labeller="anna"))["result"]["tasks"]
        assert [each["task"]["task"] for each in claimed] == [task]
        given = await it.ask("submit", lease=claimed[0]["lease"], result={"type": "choice", "value": "cat"})
        assert given["result"]["annotation"]["phase"] == "labelled"
        assert [each.data["sample"] for each in it.kept(BULK)] == [task, task]
        subjects = ["edge/edge-1/up/label-task/job", "edge/edge-1/up/label/job"]
        assert [each.subject for each in it.kept(RESULTS)] == subjects
        assert b"secret" not in b"".join(each.body for lane in (BULK, RESULTS)
                                         for each in it.journal.read(lane, 0, 10**6, 10**9).events)  # fmt: skip
        assert it.refused == []

    _labelled(on_node, test)


def test_a_large_sample_is_read_on_its_node_a_part_at_a_time(on_node: Any) -> None:
    content = dumps({"x": np.arange(200_000, dtype=np.float32)})

    async def test(it: Labelled) -> None:
        task = await it.capture("", content)
        (claimed,) = (await it.ask("claim", labeller="anna"))["result"]["tasks"]
        assert (claimed["task"]["task"], claimed["task"]["data"].get("inline")) == (task, None)
        read = b""
        while len(read) < claimed["task"]["data"]["size"]:
            part = (await it.ask("sample", task=task, offset=len(read)))["result"]
            read += base64.b64decode(part["content"])
        assert read == content
        assert it.kept(BULK)[0].data.get("tensor") is None, "the sample stays on the node"
        assert (await it.ask("sample", task="f" * 64))["error"]["code"] == "unknown-task"

    _labelled(on_node, test, quota=8 << 20)


def test_a_full_journal_takes_no_task_and_forgets_none(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        for number in range(20):
            await it.capture(f"{number}")
        tasks = (await it.ask("claim", labeller="anna", count=64))["result"]["tasks"]
        assert 0 < len(tasks) < 20
        assert len([*it.journal.documents("label-samples")]) == len(tasks)
        assert "not-kept" in {error.code for error in it.errors}

    _labelled(on_node, test, quota=6000)


def test_a_sample_cannot_be_claimed_before_it_is_on_the_disk(on_node: Any) -> None:
    """A task that was claimed while its commit was under way would outlive the sample that a full disk loses."""

    async def test(it: Labelled) -> None:
        it.node.loop.disk_seconds = 5.0
        task = await it.capture("one")  # a second later its commit is under way
        assert (await it.ask("claim", labeller="anna"))["result"]["tasks"] == []
        await asyncio.sleep(10)
        assert [each["task"]["task"] for each in (await it.claimed_later("anna"))] == [task]

    _labelled(on_node, test)


def test_leases_and_tasks_outlive_the_agent(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        first, second = await it.capture("one"), await it.capture("two")
        (claimed,) = (await it.ask("claim", labeller="anna"))["result"]["tasks"]
        await it.restart()
        others = (await it.ask("claim", labeller="bert", count=9))["result"]["tasks"]
        assert (claimed["task"]["task"], [each["task"]["task"] for each in others]) == (first, [second])
        given = await it.ask("submit", lease=claimed["lease"], result={"type": "choice", "value": "dog"})
        assert given["ok"]
        await asyncio.sleep(60)  # bert has gone
        late = await it.ask("submit", lease=others[0]["lease"], result={"type": "choice", "value": "dog"})
        assert late["error"]["code"] == "lease-expired"
        assert len((await it.ask("claim", labeller="carl"))["result"]["tasks"]) == 1

    _labelled(on_node, test)


@pytest.mark.parametrize(
    ("verb", "fields", "code"),
    [
        ("claim", {"name": "another"}, "not-found"),
        ("create", {}, "unknown-verb"),
        ("claim", {"count": 0}, "invalid"),
        ("claim", {"cuont": 1}, "unknown-field"),
        ("submit", {"lease": "none", "result": {"type": "choice", "value": "cat"}}, "unknown-lease"),
    ],
)
def test_a_bad_request_is_answered_with_its_reason(on_node: Any, verb: str, fields: Any, code: str) -> None:
    async def test(it: Labelled) -> None:
        assert (await it.ask(verb, **fields))["error"]["code"] == code
        assert (await it.ask("get"))["result"]["status"]["waiting"] == 0

    _labelled(on_node, test)


def test_what_names_no_reply_ends_nothing(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        for body in (b"", b"\xff", b"[]", b'{"name": "job"}', b'{"reply_to": "heliograph/edge/edge-1/up/label/job"}'):
            it.node.publish("request/labels/claim", body)
        await asyncio.sleep(1)
        assert len(it.refused) == 5
        assert (await it.ask("list"))["ok"]

    _labelled(on_node, test)


def test_a_deleted_queue_leaves_nothing_and_one_of_a_later_version_stays(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        await it.capture("one")
        it.follow({}, unsupported_queues=("job",))
        await asyncio.sleep(1)
        assert await it.left() == 2
        it.follow({"other": OTHER})
        assert await it.left() == 0

    _labelled(on_node, test)


def test_a_queue_that_was_deleted_while_the_agent_was_away_leaves_nothing(on_node: Any, tmp_path: Path) -> None:
    """Another queue's tasks, loops, and labels on their way stay, and nothing goes until the cloud has told."""

    async def test(it: Labelled) -> None:
        await it.restart({**QUEUES, "other": OTHER})
        for text in ("one", "two", "three"):
            await it.capture(text)
        same = await it.capture("one", job="other")
        for _ in range(2):
            claimed = (await it.ask("claim", labeller="anna"))["result"]["tasks"]
        assert (await it.ask("submit", lease=claimed[0]["lease"], result={"type": "choice", "value": "cat"}))["ok"]
        loops = LoopStore(it.journal)
        await loops.save("job", StoredLoop(uid="loop"))
        await loops.note("loop", 0, [same])
        before = await it.left("uid."), await it.left("uid-2."), it.kept(RESULTS)
        assert before[:2] == (7, 2)  # 3 tasks, their samples, and how many labels are told
        await it.journal.save(f"labels/uid.{'e' * 64}", b"damaged")
        await it.restart({})
        it.follow({}, is_present=False, n=2)
        it.follow({}, n=0)
        assert (await it.left("uid."), await it.left("uid-2.")) == (8, 2)
        for _ in range(2):
            it.follow({"other": OTHER}, n=2)
            assert (await it.left("uid."), await it.left("uid-2.")) == (0, 2)
            assert it.kept(RESULTS) == before[2]
            loops = LoopStore(it.journal)
            assert (loops.names(), loops.noted("loop", 0)) == (["job"], [same])
            await it.restart({})
        it.follow({"other": OTHER}, n=2)
        (found,) = (await it.ask("claim", name="other"))["result"]["tasks"]
        assert (found["task"]["task"], base64.b64decode(found["task"]["data"]["inline"])) == (same, b"one")

    _labelled(on_node, test, file=tmp_path / "journal.db")


def test_a_label_that_a_fault_left_unpublished_outlives_its_deleted_queue(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Labelled) -> None:
        await it.capture("one")
        (claimed,) = (await it.ask("claim", labeller="anna"))["result"]["tasks"]
        given = await it.ask("submit", lease=claimed["lease"], result={"type": "choice", "value": "cat"})
        await it.left()
        await it.journal.forget(RESULTS, it.journal.read(RESULTS, 0, 10**6, 10**9).through)
        await it.journal.delete("labels/uid.told")  # as a crash leaves it between the label and its event
        await it.restart({})
        it.follow({}, n=2)
        assert await it.left() == 0
        await it.restart()
        it.follow({}, n=2)
        assert await it.left() == 0
        assert [each.data["annotation"] for each in it.kept(RESULTS)] == [given["result"]["annotation"]["annotation"]]

    _labelled(on_node, test, file=tmp_path / "journal.db")


def test_a_queue_of_a_later_version_stays_over_a_restart_while_a_deleted_one_goes(on_node: Any) -> None:
    async def test(it: Labelled) -> None:
        await it.restart({**QUEUES, "other": OTHER})
        await it.capture("one")
        await it.capture("two", job="other")
        await it.restart({})
        it.follow({}, n=2, unsupported_queues=("job",))
        assert (await it.left("uid."), await it.left("uid-2.")) == (2, 0)
        it.follow({}, n=3)
        assert await it.left() == 0

    _labelled(on_node, test)


def test_a_queue_that_this_version_cannot_read_is_set_aside_by_name() -> None:
    newer = {"uid": "uid", "spec": {"label_schema": {"type": "hologram"}}}
    document = {"edge": EDGE, "generation": {}, "label_queues": {"good": QUEUES["job"].model_dump(), "new": newer}}
    desired = Desired.model_validate(document)
    assert ([*desired.label_queues], desired.unsupported_queues) == (["good"], ("new",))
