"""An inference worker: requests and answers, new weights and settings between two requests, published counts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import session
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Assignment, BigModelTask, CandidateModel, InferenceSpec, InferTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.bus.transport import Message
from heliograph.core.tasks import cancel_and_wait
from heliograph.inference.serving_queue import PendingRequest
from heliograph.workers.hard_samples import MAX_SAMPLES_UNDER_WAY, MAX_SCORES
from heliograph.workers.infer import PUBLISH_EVERY, InferenceHost
from heliograph.workers.outbox import WINDOW, WINDOW_BYTES
from heliograph.workers.runtime import Runtime, WorkerEnvironment

WORKER, SERVICE, REPLY = "street-worker", "street", "reply/camera/1"
ARRAYS = {"w": np.arange(3, dtype=np.float32)}
WEIGHTS = dumps(ARRAYS)
MODEL = WeightsRef(digest=hashlib.sha256(WEIGHTS).hexdigest(), size=len(WEIGHTS))


def _assignment(side: str = "edge", file: Path | None = None, **changes: Any) -> Assignment:
    fields = {"worker": WORKER, "job": SERVICE, "job_uid": "u", "generation": 1, **changes}
    task = InferTask(**fields) if side == "edge" else BigModelTask(**fields)
    return Assignment(task=task, edge="edge-1", model_file=str(file) if file else "")
ANSWER = topics.BIG_MODEL_ANSWER.at(service=SERVICE, edge="edge-1", client="camera", id="1")


class Serving:
    """A host on a node; the test plays its script."""

    def __init__(self, node: Any, runtime: Runtime, first: Assignment) -> None:
        self.node = node
        self.runtime = runtime
        self.host = InferenceHost(runtime, first)
        self.replies = node.heard(node.broker, "reply/#")
        self._stats = node.heard(node.broker, topics.INFERENCE_STATS.filter())

    async def ask(self, tree: Any, **more: Any) -> None:
        body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
        self.node.publish(topics.INFERENCE_REQUEST.at(service=SERVICE), body, **more)
        await self.node.settled()

    async def next(self) -> PendingRequest:
        """Return the next item for the script, without waiting."""
        await self.node.settled()
        asked = self.host.serving.next_waiting(1, 0.0, None)
        assert asked is not None
        return asked[0]

    def stats(self) -> list[dict[str, Any]]:
        """Return the published counts without repeats, which the worker sends while no agent acknowledges."""
        return list({event.sequence: event.data for event in (decode(each.body) for each in self._stats)}.values())


def _serving(on_node: Any, test: Callable[[Serving], Any], first: Assignment | None = None) -> None:
    async def main(node: Any) -> None:
        first_one = first or _assignment()
        url = "memory://node" if isinstance(first_one.task, InferTask) else "memory://cloud"
        launch = WorkerEnvironment(url, "heliograph", "edge-1", WORKER, b"k" * 32, Path("/here"), Path("/models"))
        async with Runtime(launch, node.world) as runtime:
            it = Serving(node, runtime, first_one)
            following = node.start(it.host.follow())
            await node.settled()
            await test(it)
            await cancel_and_wait(following)
            await it.host.offloader.close()

    on_node(main)


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_the_script_finds_its_workers_side(
    on_node: Any, side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "inference", {})

    async def test(it: Serving) -> None:
        assert it.host.begin().task.job == SERVICE
        assert session.inference == {side: it.host.serving}
        assert (it.host.serving.offload is not None) == (side == "edge")

    _serving(on_node, test, _assignment(side))


def test_a_request_reaches_the_script_and_a_refusal_its_requester(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        await it.ask({"x": [1.0]}, reply_to=REPLY, correlation=b"7")
        asked = await it.next()
        assert asked.tree["x"] == [1.0]
        it.host.serving.refuse(asked, ValueError("not that"))
        await it.node.settled()
        (reply,) = it.replies
        assert (reply.topic, reply.correlation) == (REPLY, b"7")
        assert "not that" in str(json.loads(reply.body)["error"])

    _serving(on_node, test)


def test_an_unreadable_body_is_refused_where_its_sender_is_known_and_else_counted(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        await it.ask(b"{", reply_to=REPLY)
        assert [each.topic for each in it.replies] == [REPLY]
        await it.ask(b"{")
        await it.ask({"x": [1.0]})
        await it.ask({"x": [1.0], "reply_to": "edge/edge-1/up/label/job"})
        assert len(it.replies) == 1
        assert it.host.serving.counts.errors == 4
        await it.ask({"x": [2.0]}, reply_to=REPLY)
        assert (await it.next()).reply_to == REPLY

    _serving(on_node, test)


def test_a_request_of_another_account_is_answered_where_the_broker_says(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        topic, body = topics.BIG_MODEL.at(service=SERVICE, edge="edge-1"), json.dumps({"x": [1.0]}).encode()
        it.node.cloud_broker.publish(topic, Message(topic, body, "_R_.server.request"))
        assert (await it.next()).reply_to == "_R_.server.request"

    _serving(on_node, test, _assignment("cloud"))


def test_in_the_cloud_replicas_share_the_edges_requests(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        async with it.runtime.bus.subscribe(topics.BIG_MODEL.filter(service=SERVICE), queue="big-model") as others:
            topic = topics.BIG_MODEL.at(service=SERVICE, edge="edge-1")
            for _ in range(2):
                body = json.dumps({"x": [1.0]}).encode()
                it.node.cloud_broker.publish(topic, Message(topic, body, ANSWER))
            assert (await it.next()).reply_to == ANSWER
            assert (await anext(others)).topic == topic

    _serving(on_node, test, _assignment("cloud"))


@pytest.mark.parametrize(
    "address",
    [
        topics.BIG_MODEL_ANSWER.at(service=SERVICE, edge="edge-2", client="camera", id="1"),
        topics.BIG_MODEL_ANSWER.at(service="another", edge="edge-1", client="camera", id="1"),
        "event/aggregation/job",
        "$KV/rounds/uid/1",
    ],
)
def test_the_deep_model_answers_an_edge_on_its_own_topics_alone(on_node: Any, address: str) -> None:
    async def test(it: Serving) -> None:
        topic, body = topics.BIG_MODEL.at(service=SERVICE, edge="edge-1"), json.dumps({"x": [1.0]}).encode()
        it.node.cloud_broker.publish(topic, Message(topic, body, address))
        it.node.cloud_broker.publish(topic, Message(topic, body, ANSWER))
        assert (await it.next()).reply_to == ANSWER
        assert it.host.serving.counts.errors == 1

    _serving(on_node, test, _assignment("cloud"))


def test_other_weights_are_handed_over_once(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Serving) -> None:
        inline = MODEL.model_copy(update={"inline": WEIGHTS})
        await it.host.assign(_assignment(model=inline))
        await it.host.assign(_assignment(model=MODEL, file=tmp_path / "the same, not read"))
        model, _ = _changes(it)
        np.testing.assert_array_equal(model["w"], ARRAYS["w"])
        assert (it.host.serving.model, it.host.serving.health.trouble) == (MODEL.digest, "")

    _serving(on_node, test)


def test_weights_from_a_file_are_read_away_from_it(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Serving) -> None:
        file = tmp_path / "model"
        file.write_bytes(WEIGHTS)
        await it.host.assign(_assignment(model=MODEL, file=file))
        file.unlink()
        model, _ = _changes(it)
        np.testing.assert_array_equal(model["w"], ARRAYS["w"])

    _serving(on_node, test)


@pytest.mark.parametrize("content", [WEIGHTS, WEIGHTS[:-1], None])
def test_a_candidate_that_cannot_be_tried_is_told_and_answers_nobody(
    on_node: Any, tmp_path: Path, content: bytes | None
) -> None:
    async def test(it: Serving) -> None:
        file = tmp_path / "candidate"
        if content is not None:
            file.write_bytes(content)
        given: list[Any] = []
        it.host.serving.on_candidate = given.append
        candidate = CandidateModel(model=MODEL, number=2)
        assignment = _assignment(candidate=candidate).model_copy(update={"files": {MODEL.digest: str(file)}})
        await it.host.assign(assignment)  # a node in virtual time starts no process
        for _ in range(3):
            await it.node.settled()
        _changes(it)
        assert [each.digest for each in given] == [""]
        assert it.host.serving.counts.versions[MODEL.digest].rejected == 1
        assert f"candidate {MODEL.digest[:12]}: " in it.host.serving.health.trouble

    _serving(on_node, test)


def test_a_candidate_that_the_agent_refuses_is_told_and_answers_nobody(on_node: Any, tmp_path: Path) -> None:
    async def test(it: Serving) -> None:
        given: list[Any] = []
        it.host.serving.on_candidate = given.append
        inline = MODEL.model_copy(update={"inline": WEIGHTS})  # it could be read
        await it.host.assign(_assignment(candidate=CandidateModel(model=inline, number=2, refused="it is not signed")))
        for _ in range(3):
            await it.node.settled()
        _changes(it)
        assert [each.digest for each in given] == [""]
        assert it.host.serving.counts.versions[MODEL.digest].rejected == 1
        assert "it is not signed" in it.host.serving.health.trouble

    _serving(on_node, test)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", WEIGHTS[:-1]])
def test_unreadable_weights_are_reported_and_the_earlier_ones_stay(
    on_node: Any, tmp_path: Path, content: bytes | None
) -> None:
    async def test(it: Serving) -> None:
        file = tmp_path / "model"
        if content is not None:
            file.write_bytes(content)
        await it.host.assign(_assignment(model=MODEL, file=file))
        model, _ = _changes(it)
        assert not model["w"].any()
        assert it.host.serving.model == ""
        assert it.host.serving.health.trouble.startswith(f"model {MODEL.digest[:12]}: ")

    _serving(on_node, test)


def test_other_settings_are_handed_over_and_the_same_ones_are_not(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        other = InferenceSpec(deadline_seconds=9.0)
        await it.host.assign(_assignment())
        await it.host.assign(_assignment(inference=other))
        await it.host.assign(_assignment(inference=other))
        assert _changes(it)[1] == [other]

    _serving(on_node, test)


def test_the_end_of_the_service_ends_the_script(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        await it.host.assign(_assignment().model_copy(update={"ended": True}))
        assert it.host.serving.next_request(None) is None
        waiting = it.node.start(it.host.until_finished())
        await it.node.settled()
        assert not waiting.done()
        it.host.finish()
        await waiting

    _serving(on_node, test)


def test_counts_are_published_when_they_have_changed(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        telling = it.node.start(it.host.publish_counts())
        await asyncio.sleep(5.5 * PUBLISH_EVERY)
        assert len(it.stats()) == 1
        first = it.stats()[0]
        assert (first["service"], first["edge"], first["worker"]) == (SERVICE, "edge-1", WORKER)
        assert first["incarnation"] == it.runtime.incarnation
        it.host.serving.counts.errors += 2
        await asyncio.sleep(5 * PUBLISH_EVERY)
        assert [each["errors"] for each in it.stats()] == [0, 2]
        await cancel_and_wait(telling)

    _serving(on_node, test)


def test_a_hard_sample_goes_to_the_job_that_the_service_names(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        heard = it.node.heard(it.node.broker, topics.HARD_SAMPLE.filter())
        it.host.serving.publish_hard([1.0, 2.0], np.full(MAX_SCORES + 5, 0.5))
        await it.node.settled()
        sample = topics.HARD_SAMPLE.validate(decode(heard[0].body).data, heard[0].topic)
        assert (sample.job, sample.edge, len(sample.scores)) == ("incremental", "edge-1", MAX_SCORES)
        assert sample.data is not None
        assert sample.data.inline is not None
        with TensorFile(sample.data.inline) as file:
            np.testing.assert_array_equal(file.numpy("x"), [1.0, 2.0])
        it.host.serving.publish_hard(np.zeros(10**5), [0.5])
        it.host.serving.publish_hard(np.zeros(10**6), [0.5])
        await it.node.settled()
        large, huge = (topics.HARD_SAMPLE.validate(decode(each.body).data, each.topic) for each in heard[1:])
        assert (large.data, large.scores) == (None, [0.5])
        assert large.sample == sha256(large.tensor or b"").hexdigest()
        assert (huge.data, huge.tensor, huge.scores) == (None, None, [0.5])

    _serving(on_node, test, _assignment(inference=InferenceSpec(hard_samples_to="incremental")))


def test_hard_samples_that_come_too_fast_are_left_out_with_a_log_line(
    on_node: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(it: Serving) -> None:
        heard = it.node.heard(it.node.broker, topics.HARD_SAMPLE.filter())
        for _ in range(WINDOW + MAX_SAMPLES_UNDER_WAY + 3):  # no agent acknowledges any
            it.host.serving.publish_hard([1.0], [0.5])
        await it.node.settled()
        assert len(heard) == WINDOW
        assert capsys.readouterr().out.count("hard samples come faster") == 1

    _serving(on_node, test, _assignment(inference=InferenceSpec(hard_samples_to="incremental")))


def test_large_samples_that_come_too_fast_are_bounded_by_their_bytes(
    on_node: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(it: Serving) -> None:
        heard = it.node.heard(it.node.broker, topics.HARD_SAMPLE.filter())
        for number in range(20):  # no agent acknowledges any
            it.host.serving.publish_hard(np.full(600_000, number), [0.5])
        await it.node.settled()
        assert len(heard) == -(-WINDOW_BYTES // 4_800_000)
        assert capsys.readouterr().out.count("hard samples come faster") == 1

    _serving(on_node, test, _assignment(inference=InferenceSpec(hard_samples_to="incremental")))


def test_without_such_a_job_no_sample_leaves_the_node(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        heard = it.node.heard(it.node.broker, topics.HARD_SAMPLE.filter())
        it.host.serving.publish_hard([1.0], [0.5])
        await it.node.settled()
        assert heard == []

    _serving(on_node, test)


def _changes(it: Serving) -> tuple[dict[str, Any], list[InferenceSpec]]:
    """Return the script's model and settings after its serving loop; the weights were zeros at first."""
    model, configured = {"w": np.zeros(3, np.float32)}, []  # type: ignore[var-annotated]
    it.host.serving.enqueue(None)
    assert it.host.serving.next_request(model, configured.append) is None
    return model, configured


def test_a_retained_request_is_not_served(on_node: Any) -> None:
    async def test(it: Serving) -> None:
        await it.ask({"input": [[1]], "reply_to": f"heliograph/{REPLY}"}, retained=True)
        assert it.host.serving.counts.errors == 1
        await it.ask({"input": [[2]], "reply_to": f"heliograph/{REPLY}"})
        assert (await it.next()).tree["input"] == [[2]]
        assert it.replies == []

    _serving(on_node, test)
