"""A script that serves a model: batches, overload, a sample that the model raises on, weights that change between."""

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
from heliograph.inference.serving import MOST_WAITING, Asked, NewModel, Serving

TOPIC = "inference/line/big-model/edge-1"


class Desk:
    """A serving script in a thread, its requests and its answers."""

    def __init__(self, serving: Serving, said: list[str]) -> None:
        self.serving = serving
        self.said = said
        self.answers: dict[str, dict[str, Any]] = {}
        self.came = asyncio.Condition()
        self._asked = 0

    async def send(self, answers: list[tuple[Asked, bytes]]) -> None:
        async with self.came:
            for asked, body in answers:
                assert asked.reply_to not in self.answers, "answered twice"
                self.answers[asked.reply_to] = msgpack.unpackb(body)
            self.came.notify_all()

    def ask(self, value: float, deadline: float = 10.0, shape: tuple[int, ...] = (2,)) -> str:
        self._asked += 1
        body = pack_request(np.full(shape, value, np.float32), deadline)
        self.serving.take(Message(TOPIC, body), parse(body), str(self._asked))
        return str(self._asked)

    async def answer(self, asked: str) -> dict[str, Any]:
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: asked in self.answers)
            return self.answers[asked]


@asynccontextmanager
async def desk_of(
    side: Any, serve: Callable[[], None], monkeypatch: pytest.MonkeyPatch, **spec: Any
) -> AsyncIterator[Desk]:
    said: list[str] = []
    serving = Serving(
        "line", InferenceSpec(**spec), asyncio.get_running_loop(), World(), lambda answers: desk.send(answers), None,
        said.append,
    )  # fmt: skip
    desk = Desk(serving, said)
    monkeypatch.setitem(session.inference, side, serving)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield desk
    finally:
        serving.put(None)
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


class Held:
    """A deep model that can be held up; it remembers its batches, and raises on 13."""

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


async def test_what_comes_meanwhile_is_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    async with desk_of("cloud", BigModel("line", model).serve, monkeypatch, max_batch=4) as desk:
        first = desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        others = [desk.ask(n) for n in range(1, 8)]
        model.free.set()
        answers = [await desk.answer(each) for each in (first, *others)]
    assert [each["scores"][0] for each in answers] == list(range(8))
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


async def test_samples_of_two_shapes_are_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    async with desk_of("cloud", BigModel("line", model).serve, monkeypatch) as desk:
        first = desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        others = [desk.ask(n, shape=(2 + n % 2,)) for n in range(1, 5)]
        model.free.set()
        for each in (first, *others):
            assert "scores" in await desk.answer(each)
    assert sorted(map(sorted, model.batches)) == [[0], [1, 3], [2, 4]]


async def test_a_sample_that_the_model_raises_on_gets_the_error_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    big = BigModel("line", model)
    async with desk_of("cloud", big.serve, monkeypatch) as desk:
        first = desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        good, bad, better = desk.ask(1), desk.ask(13), desk.ask(2)
        model.free.set()
        assert (await desk.answer(good))["scores"][0] == 1
        assert (await desk.answer(better))["scores"][0] == 2
        error = (await desk.answer(bad))["error"]
        assert (error["code"], error["got"]) == ("model-failed", "RuntimeError: thirteen")
        assert "scores" in await desk.answer(first)
    assert (big.counts.by_cloud, big.counts.errors) == (3, 1)


async def test_what_can_not_be_answered_in_time_is_shed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    async with desk_of("cloud", BigModel("line", model).serve, monkeypatch, max_batch=1) as desk:
        first = desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        late = desk.ask(1, deadline=0.05)
        await asyncio.sleep(0.1)  # its deadline passes while the model is busy
        model.free.set()
        assert (await desk.answer(late))["error"]["code"] == "overloaded"
        assert "scores" in await desk.answer(first)
        again = desk.ask(2, deadline=0.001)  # a batch is known to take longer
        assert (await desk.answer(again))["error"]["code"] == "overloaded"
        assert "scores" in await desk.answer(desk.ask(3))
    assert [1.0] not in model.batches


async def test_no_more_wait_than_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    async with desk_of("cloud", BigModel("line", model).serve, monkeypatch, max_batch=4096) as desk:
        desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        asked = [desk.ask(1) for _ in range(MOST_WAITING + 5)]
        for each in asked[MOST_WAITING:]:
            assert (await desk.answer(each))["error"]["code"] == "overloaded"
        model.free.set()
        for each in asked[:MOST_WAITING]:
            assert "scores" in await desk.answer(each)


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
    async with desk_of("cloud", BigModel("line", line).serve, monkeypatch, max_batch=3) as desk:
        asked = []
        for n in range(60):
            if n % 10 == 0:
                desk.serving.put(NewModel(f"digest-{n}", {"w": np.full(2, n)}))
            asked.append(desk.ask(n))
        answers = [(await desk.answer(each))["scores"][0] for each in asked]
        desk.serving.put(NewModel("bad", {"w": np.zeros(3)}))
        assert (await desk.answer(desk.ask(0)))["scores"][0] == 50
    assert answers == [n // 10 * 10 for n in range(60)]
    assert desk.serving.model == "digest-50"
    assert "expected w of shape (2,)" in desk.serving.trouble
    assert any("the model before keeps serving" in line for line in desk.said)


async def test_settings_that_are_wrong_leave_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    service = JointInference("line", edge=Line(), rule="threshold")
    async with desk_of("edge", service.serve, monkeypatch, rule="never") as desk:
        assert (await desk.answer(desk.ask(0)))["degraded"] is False
        desk.serving.put(InferenceSpec(rule="nonsense"))
        assert (await desk.answer(desk.ask(0)))["degraded"] is False
        assert "nonsense" in desk.serving.trouble
        desk.serving.put(InferenceSpec(rule="always"))
        assert (await desk.answer(desk.ask(0)))["degraded"] is True  # hard, and there is no cloud
        assert desk.serving.trouble == ""


async def test_the_edges_requests_that_waited_together_are_scored_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Held()
    model.free.clear()
    service = JointInference("line", edge=model, rule="never", micro_batch=8)
    async with desk_of("edge", service.serve, monkeypatch, rule="never") as desk:
        first = desk.ask(0)
        await asyncio.to_thread(model.entered.wait, 10)
        others = [desk.ask(n) for n in (1, 13, 2)]
        model.free.set()
        answers = [await desk.answer(each) for each in (first, *others)]
    assert model.batches[:2] == [[0], [1, 13, 2]]
    assert [each.get("by") for each in answers] == ["edge", "edge", None, "edge"]
    assert answers[2]["error"]["got"] == "RuntimeError: thirteen"
    assert (service.counts.by_edge, service.counts.errors) == (3, 1)
