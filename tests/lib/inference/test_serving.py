"""A script that serves a model: batches, overload, a sample that fails, weights that change between requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import numpy as np
import pytest

from heliograph import BigModel, JointInference, session
from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.bus.transport import Message
from heliograph.core.world import World
from heliograph.inference.inputs import pack_request
from heliograph.inference.serving import MAX_WAITING, Serving
from heliograph.inference.serving_queue import NewCandidate, NewModel, PendingRequest
from tests.patience import HANGS

TOPIC = "edge/edge-1/up/big-model/line"


class Served:
    """A serving script in a thread, with its requests and its answers."""

    def __init__(self, serving: Serving, warnings: list[str]) -> None:
        self.serving = serving
        self.warnings = warnings
        self.answers: dict[str, dict[str, Any]] = {}
        self.came = asyncio.Condition()
        self._asked = 0

    async def send(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        async with self.came:
            for request, body in answers:
                assert request.reply_to not in self.answers, "answered twice"
                self.answers[request.reply_to] = msgpack.unpackb(body)
            self.came.notify_all()

    def ask(self, value: float, deadline: float = 10.0, shape: tuple[int, ...] = (2,)) -> str:
        self._asked += 1
        body = pack_request(np.full(shape, value, np.float32), deadline)
        self.serving.receive(Message(TOPIC, body), parse(body), str(self._asked))
        return str(self._asked)

    async def answer(self, asked: str) -> dict[str, Any]:
        async with asyncio.timeout(HANGS), self.came:
            await self.came.wait_for(lambda: asked in self.answers)
            return self.answers[asked]


@asynccontextmanager
async def serving_script(
    side: Any, serve: Callable[[], None], monkeypatch: pytest.MonkeyPatch, **spec: Any
) -> AsyncIterator[Served]:
    warnings: list[str] = []
    serving = Serving(
        "line", InferenceSpec(**spec), asyncio.get_running_loop(), World(), lambda answers: served.send(answers), None,
        warnings.append,
    )  # fmt: skip
    served = Served(serving, warnings)
    monkeypatch.setitem(session.inference, side, serving)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        serving.enqueue(None)
        await asyncio.to_thread(thread.join, HANGS)
        assert not thread.is_alive()


class StallingModel:
    """A model that waits while ``free`` is cleared, records its batches, and fails on 13."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def __call__(self, batch: Any) -> list[Any]:
        self.batches.append([float(x.flat[0]) for x in batch])
        self.entered.set()
        self.free.wait(10)
        if 13.0 in self.batches[-1]:
            raise RuntimeError("thirteen")
        return [np.array([x.flat[0], 0.5]) for x in batch]


async def test_requests_that_wait_together_form_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    async with serving_script("cloud", BigModel("line", model).serve, monkeypatch, max_batch=4) as served:
        first = served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        others = [served.ask(n) for n in range(1, 8)]
        model.free.set()
        answers = [await served.answer(each) for each in (first, *others)]
    assert [each["scores"][0] for each in answers] == list(range(8))
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


async def test_samples_of_two_shapes_form_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    async with serving_script("cloud", BigModel("line", model).serve, monkeypatch) as served:
        first = served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        others = [served.ask(n, shape=(2 + n % 2,)) for n in range(1, 5)]
        model.free.set()
        for each in (first, *others):
            assert "scores" in await served.answer(each)
    assert sorted(map(sorted, model.batches)) == [[0], [1, 3], [2, 4]]


async def test_only_the_sample_that_the_model_fails_on_gets_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    big = BigModel("line", model)
    async with serving_script("cloud", big.serve, monkeypatch) as served:
        first = served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        good, bad, better = served.ask(1), served.ask(13), served.ask(2)
        model.free.set()
        assert (await served.answer(good))["scores"][0] == 1
        assert (await served.answer(better))["scores"][0] == 2
        error = (await served.answer(bad))["error"]
        assert (error["code"], error["got"]) == ("model-failed", "RuntimeError: thirteen")
        assert "scores" in await served.answer(first)
    assert (big.counts.by_cloud, big.counts.errors) == (3, 1)


async def test_requests_that_cannot_meet_their_deadline_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    async with serving_script("cloud", BigModel("line", model).serve, monkeypatch, max_batch=1) as served:
        first = served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        late = served.ask(1, deadline=0.05)
        await asyncio.sleep(0.1)  # its deadline passes while the model is busy
        model.free.set()
        assert (await served.answer(late))["error"]["code"] == "overloaded"
        assert "scores" in await served.answer(first)
        again = served.ask(2, deadline=0.001)  # earlier batches took longer
        assert (await served.answer(again))["error"]["code"] == "overloaded"
        assert "scores" in await served.answer(served.ask(3))
    assert [1.0] not in model.batches


async def test_requests_beyond_the_queues_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    async with serving_script("cloud", BigModel("line", model).serve, monkeypatch, max_batch=4096) as served:
        served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        asked = [served.ask(1) for _ in range(MAX_WAITING + 5)]
        for each in asked[MAX_WAITING:]:
            assert (await served.answer(each))["error"]["code"] == "overloaded"
        model.free.set()
        for each in asked[:MAX_WAITING]:
            assert "scores" in await served.answer(each)


class Line:
    """A model with weights of its own."""

    def __init__(self) -> None:
        self.w = np.zeros(2)

    def get(self) -> dict[str, Any]:
        return {"w": self.w}

    def set(self, arrays: Any) -> None:
        if arrays["w"].shape != (2,):
            raise ValueError("expected w of shape (2,)")
        self.w = np.array(arrays["w"])

    def __call__(self, batch: Any) -> list[Any]:
        return [self.w for _ in batch]


async def test_weights_change_between_two_requests_and_none_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line()
    async with serving_script("cloud", BigModel("line", line).serve, monkeypatch, max_batch=3) as served:
        asked = []
        for n in range(60):
            if n % 10 == 0:
                served.serving.enqueue(NewModel(f"digest-{n}", {"w": np.full(2, n)}))
            asked.append(served.ask(n))
        answers = [(await served.answer(each))["scores"][0] for each in asked]
        served.serving.enqueue(NewModel("bad", {"w": np.zeros(3)}))
        assert (await served.answer(served.ask(0)))["scores"][0] == 50
    assert answers == [n // 10 * 10 for n in range(60)]
    assert served.serving.model == "digest-50"
    assert "expected w of shape (2,)" in served.serving.health.trouble
    assert any("the previous model keeps serving" in line for line in served.warnings)


class Grows(Line):
    """A model of as many classes as its weights have."""

    def set(self, arrays: Any) -> None:
        self.w = np.array(arrays["w"])


async def test_a_class_that_training_added_is_answered_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, side in ((JointInference, "edge"), (BigModel, "cloud")):
        serve = kind("line", Grows(), classes=["cat", "dog"], **({"rule": "never"} if side == "edge" else {})).serve
        async with serving_script(side, serve, monkeypatch) as served:
            for width, names, answer in (
                (2, ("cat", "dog"), "dog"), (3, ("cat", "dog", "fox"), "fox"), (2, (), "dog"),
                (3, ("fox", "dog", "cat"), None), (3, (), None), (4, ("cat", "dog", "fox", "owl"), "owl"),
            ):  # fmt: skip
                served.serving.enqueue(NewModel(f"{width}{names}", {"w": np.eye(width)[-1]}, names))
                found = await served.answer(served.ask(0))
                if answer is None:  # nothing tells the name of the third class
                    assert found["error"]["code"] == "bad-classes"
                else:
                    assert found["result"] == answer


async def test_invalid_settings_leave_the_previous_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    service = JointInference("line", edge=Line(), rule="threshold")
    async with serving_script("edge", service.serve, monkeypatch, rule="never") as served:
        assert (await served.answer(served.ask(0)))["degraded"] is False
        served.serving.enqueue(InferenceSpec(rule="nonsense"))
        assert (await served.answer(served.ask(0)))["degraded"] is False
        assert "nonsense" in served.serving.health.trouble
        served.serving.enqueue(InferenceSpec(rule="always"))
        assert (await served.answer(served.ask(0)))["degraded"] is True  # hard, but without a cloud
        assert served.serving.health.trouble == ""


async def test_edge_requests_that_wait_together_are_scored_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StallingModel()
    model.free.clear()
    service = JointInference("line", edge=model, rule="never", micro_batch=8)
    async with serving_script("edge", service.serve, monkeypatch, rule="never") as served:
        first = served.ask(0)
        await asyncio.to_thread(model.entered.wait, HANGS)
        others = [served.ask(n) for n in (1, 13, 2)]
        model.free.set()
        answers = [await served.answer(each) for each in (first, *others)]
    assert model.batches[:2] == [[0], [1, 13, 2]]
    assert [each.get("by") for each in answers] == ["edge", "edge", None, "edge"]
    assert answers[2]["error"]["got"] == "RuntimeError: thirteen"
    assert (service.counts.by_edge, service.counts.errors) == (3, 1)


class Fails(Line):
    """A model that raises on every sample once its weights start with 13."""

    def __call__(self, batch: Any) -> list[Any]:
        if self.w[0] == 13:
            raise RuntimeError("thirteen")
        return super().__call__(batch)


def _candidate(first: float, share: float = 0.5, salt: str = "s") -> NewCandidate:
    return NewCandidate(f"tried-{first:g}", {"w": np.array([first, 1.0])}, share, salt)


async def test_a_candidate_answers_its_share_the_same_requests_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    service = JointInference("line", edge=Fails(), rule="never")
    async with serving_script("edge", service.serve, monkeypatch, rule="never") as served:

        async def by_candidate() -> list[int]:
            answers = [await served.answer(served.ask(n)) for n in range(40)]
            for each in answers:  # the version that is named is the one whose weights answered
                assert each["scores"][0] == (5 if each["model"] == "tried-5" else 2)
            return [n for n, each in enumerate(answers) if each["model"] == "tried-5"]

        served.serving.enqueue(NewModel("served", {"w": np.array([2.0, 0.0])}))
        served.serving.enqueue(_candidate(5))
        chosen = await by_candidate()
        assert 8 <= len(chosen) <= 32
        assert await by_candidate() == chosen
        served.serving.enqueue(_candidate(5, salt="another"))
        assert await by_candidate() != chosen
        for share, count in ((0.0, 0), (1.0, 40)):
            served.serving.enqueue(_candidate(5, share))
            assert len(await by_candidate()) == count
        served.serving.enqueue(NewCandidate())
        assert await by_candidate() == []
    counted = service.counts.versions
    assert counted["served"].requests + counted["tried-5"].requests == 6 * 40
    assert counted["tried-5"].compared == counted["tried-5"].requests


async def test_where_a_candidate_fails_the_serving_version_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    service = JointInference("line", edge=Fails(), rule="never")
    async with serving_script("edge", service.serve, monkeypatch, rule="never") as served:
        served.serving.enqueue(NewModel("served", {"w": np.array([2.0, 0.0])}))
        served.serving.enqueue(_candidate(13, share=1.0))
        for n in range(5):
            assert (await served.answer(served.ask(n)))["model"] == "served"
        served.serving.enqueue(NewCandidate("unfit", {"w": np.zeros(3)}, 1.0))
        assert (await served.answer(served.ask(5)))["model"] == "served"
        assert "expected w of shape (2,)" in served.serving.health.trouble
        served.serving.enqueue(NewCandidate("crashes", rejected="its trial ended with signal 11"))
        assert (await served.answer(served.ask(6)))["model"] == "served"
        assert "signal 11" in served.serving.health.trouble
    counted = service.counts.versions
    assert (counted["tried-13"].requests, counted["tried-13"].errors, counted["crashes"].rejected) == (5, 5, 1)
    assert (counted["served"].requests, counted["served"].errors) == (7, 0)
