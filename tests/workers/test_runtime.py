"""A worker's runtime: requests for an assignment, new assignments, and the path of events and weights to the cloud."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode, encode, is_signed
from heliograph.bus.contract.payloads import (
    AggregateTask,
    Annotation,
    Assignment,
    RoundSpec,
    TrainTask,
    WorkerState,
)
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import dumps
from heliograph.bus.transport import Message
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.workers import runtime as workers_runtime
from heliograph.workers.runtime import HELLO_EVERY, Runtime, WorkerEnvironment

WORKER = "job-worker"
VARIABLES = {
    "HELIOGRAPH_BUS": "memory://node",
    "HELIOGRAPH_EDGE": "edge-1",
    "HELIOGRAPH_WORKER": WORKER,
    "HELIOGRAPH_DIRECTORY": "/here",
    "HELIOGRAPH_MODELS": "/models",
    "HELIOGRAPH_CODE": '["/code"]',
}
SECRET = b"k" * 32
WEIGHTS = dumps({"w": np.arange(1000)})
REF = WeightsRef(digest=hashlib.sha256(WEIGHTS).hexdigest(), size=len(WEIGHTS))


def test_the_environment_is_read_and_the_secret_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET.hex())
    environment = {**VARIABLES, "HELIOGRAPH_SECRET_FILE": str(file)}
    found = WorkerEnvironment.from_environment(environment)
    assert (found.edge, found.worker, found.secret, found.root) == ("edge-1", WORKER, SECRET, "heliograph")
    assert (found.directory, found.models, found.code) == (Path("/here"), Path("/models"), (Path("/code"),))
    assert environment == VARIABLES


@pytest.mark.parametrize("content", [None, "no digits"])
def test_a_secret_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Refused, match="HELIOGRAPH_SECRET_FILE"):
        WorkerEnvironment.from_environment({**VARIABLES, "HELIOGRAPH_SECRET_FILE": str(file)})


@pytest.mark.parametrize("missing", sorted([*VARIABLES, "HELIOGRAPH_SECRET_FILE"]))
def test_started_by_hand_it_names_the_missing_variable(missing: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET.hex())
    every = {**VARIABLES, "HELIOGRAPH_SECRET_FILE": str(file)}
    environment = {key: value for key, value in every.items() if key != missing}
    with pytest.raises(Refused, match=missing) as refused:
        WorkerEnvironment.from_environment(environment)
    assert "launched by 'heliograph agent'" in refused.value.hint


class Running:
    """A worker's runtime on a node, and the messages that its agent receives."""

    def __init__(self, node: Any, url: str = "memory://node", directory: Path = Path("/here")) -> None:
        self.node = node
        variables = {**VARIABLES, "HELIOGRAPH_BUS": url, "HELIOGRAPH_DIRECTORY": str(directory)}
        launch = WorkerEnvironment.of(variables, SECRET)
        self.runtime = Runtime(launch, node.world)
        self.hub = node.broker if url == "memory://node" else node.cloud_broker
        self.states: list[WorkerState] = []
        self.taken: list[Assignment] = []
        self.hub.receivers.add(topics.WORKER.filter(), "", self._state)

    async def take(self, assignment: Assignment) -> None:
        self.taken.append(assignment)

    async def assign(
        self, number: int, *, ended: bool = False, model: WeightsRef | None = None, round: int = 1,
        key: bytes | None = SECRET, worker: str = WORKER,
    ) -> None:  # fmt: skip
        task = TrainTask(worker=WORKER, job="job", job_uid="u", round=round, model=model)
        address = topics.ASSIGNMENT.at(worker=WORKER)
        assignment = Assignment(number=number, task=task, edge="edge-1", ended=ended)
        event = self.node.node.event(topics.ASSIGNMENT, assignment, topics.ASSIGNMENT.at(worker=worker))
        self.hub.publish(address, Message(address, encode(event, key=key)))
        await self.node.settled()

    def _state(self, message: Message) -> None:
        assert is_signed(message.body, SECRET)
        self.states.append(topics.WORKER.validate(decode(message.body).data, message.topic))


def _running(on_node: Any, test: Callable[[Running], Any], **where: Any) -> None:
    async def main(node: Any) -> None:
        it = Running(node, **where)
        async with it.runtime:
            await test(it)

    on_node(main)


def test_another_workers_assignment_is_refused_and_hides_no_later_one(on_node: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take, TrainTask))
        address = topics.ASSIGNMENT.at(worker=WORKER)
        collect = RoundSpec(participants=[], reachable=[], deadline_seconds=1)
        for task in (
            TrainTask(worker="another", job="job", job_uid="u", round=1),
            AggregateTask(worker=WORKER, job="job", job_uid="u", round=1, algorithm="FedAvg", collect=collect),
        ):
            forged = Assignment(number=1 << 40, task=task, edge="edge-1", ended=True)
            event = it.node.node.event(topics.ASSIGNMENT, forged, address)
            it.hub.publish(address, Message(address, encode(event)))
        await it.node.settled()
        await it.assign(1)
        assert [each.number for each in it.taken] == [1]
        await cancel_and_wait(following)

    _running(on_node, test)


def test_it_requests_an_assignment_until_one_has_come(on_node: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take))
        await asyncio.sleep(3.5 * HELLO_EVERY)
        asked = len(it.states)
        assert asked >= 4
        assert {(each.worker, each.state) for each in it.states} == {(WORKER, "hello")}
        await it.assign(1)
        await asyncio.sleep(10 * HELLO_EVERY)
        assert (len(it.states), [each.number for each in it.taken]) == (asked, [1])
        await cancel_and_wait(following)

    _running(on_node, test)


def test_it_hands_on_new_assignments_until_the_job_has_ended(on_node: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take))
        await it.node.settled()
        await it.assign(2)
        await it.assign(3)  # repeated
        await it.assign(1, round=7)  # late
        await it.assign(4, round=2)
        await it.assign(5, round=2, model=REF)
        await it.assign(6, round=2, model=REF.model_copy(update={"inline": WEIGHTS}))  # the same weights
        assert [each.number for each in it.taken] == [2, 4, 5]
        await it.assign(7, ended=True)
        assert (it.taken[-1].ended, following.done()) == (True, True)

    _running(on_node, test)


def test_an_invalid_assignment_is_reported_and_skipped(on_node: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take))
        await it.node.settled()
        address = topics.ASSIGNMENT.at(worker=WORKER)
        it.hub.publish(address, Message(address, b'{"not": "an event"}'))
        await it.assign(1)
        assert [each.number for each in it.taken] == [1]
        assert any("an assignment was refused" in line for line in it.node.logged)
        await cancel_and_wait(following)

    _running(on_node, test)


@pytest.mark.parametrize("how", [{"key": None}, {"key": b"x" * 32}, {"worker": "another"}])
def test_an_assignment_that_its_agent_did_not_send_is_refused(on_node: Any, how: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take))
        await it.node.settled()
        await it.assign(9, **how)
        await it.assign(1)
        assert [each.number for each in it.taken] == [1]
        assert any("an assignment was refused" in line for line in it.node.logged)
        await cancel_and_wait(following)

    _running(on_node, test)


def test_it_requests_again_when_the_nodes_broker_is_back_but_not_after_its_end(on_node: Any) -> None:
    async def test(it: Running) -> None:
        following = it.node.start(it.runtime.assignments(it.take))
        await it.node.settled()
        await it.assign(1)
        before = len(it.states)
        it.runtime.bus.lost()
        it.runtime.bus.connect()
        await it.node.settled()
        assert len(it.states) == before + 1
        await it.assign(2, ended=True)
        assert following.done()
        it.runtime.bus.lost()
        it.runtime.bus.connect()
        await it.node.settled()
        assert len(it.states) == before + 1

    _running(on_node, test)


def test_a_reported_failure_is_cut_to_its_largest_length(on_node: Any) -> None:
    async def test(it: Running) -> None:
        await it.runtime.report_state("failed", "x" * 10_000)
        it.runtime.bus.lost()
        await it.runtime.report_state("failed", "nobody hears it")
        it.runtime.bus.connect()
        assert [(each.state, len(each.detail)) for each in it.states] == [("failed", 4000)]

    _running(on_node, test)


def test_on_the_edge_events_are_numbered_and_signed_for_its_agent(on_node: Any) -> None:
    async def test(it: Running) -> None:
        heard = it.node.heard(it.node.broker, "edge/+/up/label/#")
        await it.runtime.send(topics.LABEL, _label(), edge="edge-1", job="job")
        event = decode(heard[0].body)
        assert (event.source, event.sequence) == (f"edge-1/{WORKER}/{it.runtime.incarnation}", 1)
        assert is_signed(heard[0].body, b"k" * 32)

    _running(on_node, test)


def test_in_the_cloud_events_go_straight_into_their_stream_and_wait_for_the_link(on_node: Any) -> None:
    async def test(it: Running) -> None:
        heard = it.node.heard(it.node.cloud_broker, "edge/+/up/label/#")
        it.runtime.bus.lost()
        label = _label()
        sending = it.node.start(it.runtime.send(topics.LABEL, label, edge="edge-1", job="job"))
        await asyncio.sleep(5)
        assert (heard, sending.done()) == ([], False)
        it.runtime.bus.connect()
        await sending
        assert [decode(each.body).sequence for each in heard] == [None]
        assert len([line for line in it.node.logged if "trying again" in line]) == 1

    _running(on_node, test, url="memory://cloud")


def test_on_the_edge_staged_weights_are_left_to_the_agent(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Running) -> None:
        file = _staged(tmp_path)
        placed = await it.runtime.stage_upload(REF)
        assert (placed.bucket, placed.digest, file.exists()) == (upload_bucket("edge-1"), REF.digest, True)
        assert it.node.cloud_broker.blobs == {}

    _running(on_node, test, directory=tmp_path)


def test_in_the_cloud_the_worker_uploads_them_itself(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Running) -> None:
        file = _staged(tmp_path)
        it.runtime.bus.lost()
        uploading = asyncio.ensure_future(it.runtime.stage_upload(REF))
        await asyncio.sleep(5)
        assert (uploading.done(), file.exists()) == (False, True)
        it.runtime.bus.connect()
        placed = await uploading
        assert it.node.cloud_broker.blobs[placed.bucket] == {REF.digest: WEIGHTS}
        assert not file.exists()

    _running(on_node, test, url="memory://cloud", directory=tmp_path)


def test_inline_weights_are_not_staged(on_node: Any) -> None:
    async def test(it: Running) -> None:
        inline = REF.model_copy(update={"inline": WEIGHTS})
        assert await it.runtime.stage_upload(inline) is inline

    _running(on_node, test)


def test_leaving_waits_for_acknowledgements_but_not_for_ever(on_node: Any) -> None:
    async def main(node: Any) -> None:
        it = Running(node)
        async with it.runtime:
            await it.runtime.send(topics.LABEL, _label(), edge="edge-1", job="job")
        assert 1 < node.loop.time() < 5  # no agent has acknowledged it

    on_node(main)


def test_without_a_broker_it_gives_up(on_node: Any) -> None:
    async def main(node: Any) -> None:
        it = Running(node)
        node.links["memory://node"].cut()
        with pytest.raises(HeliographError, match="not connected"):
            async with it.runtime:
                raise AssertionError

    on_node(main)


def test_an_expected_error_ends_a_worker_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails() -> None:
        raise HeliographError("the broker is gone")

    async def fails_in_a_group() -> None:
        async with asyncio.TaskGroup(), asyncio.TaskGroup():
            raise HeliographError("its task is unknown")

    async def succeeds() -> None:
        return None

    codes: list[int] = []

    def in_a_thread() -> None:  # a thread, like a script's, because only the main thread may set signal handlers
        codes.extend(workers_runtime.run(main) for main in (fails, fails_in_a_group, succeeds))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert codes == [1, 1, 0]
    assert capsys.readouterr().out == "error: the broker is gone\nerror: its task is unknown\n"


def test_a_defect_keeps_its_traceback_even_beside_an_expected_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails() -> None:
        raise HeliographError("the broker is gone")

    async def divides() -> None:
        raise ZeroDivisionError

    async def defective() -> None:
        async with asyncio.TaskGroup() as group:  # both tasks start before the first failure ends the group
            group.create_task(fails())
            group.create_task(divides())

    caught: list[BaseException] = []

    def in_a_thread() -> None:
        try:
            workers_runtime.run(defective)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert isinstance(caught[0], ExceptionGroup)
    assert [type(each) for each in caught[0].exceptions] == [ZeroDivisionError]
    assert capsys.readouterr().out == "error: the broker is gone\n"


def _staged(directory: Path) -> Path:
    file = directory / "staged" / REF.digest
    file.parent.mkdir()
    file.write_bytes(WEIGHTS)
    return file


def _label() -> Annotation:
    return Annotation(job="job", queue_uid="u", task="0" * 64, annotation="a", labeller="a", source="model")
