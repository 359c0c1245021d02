"""The bridge against recorded exchanges of the real Label Studio, and a queue in memory."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import registry, weights_file
from heliograph.bus.contract.payloads import Annotation, LabelTask, Prediction, Region, Result
from heliograph.bus.contract.resources import dump
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.label_studio.api import LabelStudio
from heliograph.label_studio.bridge import Bridge, Settings
from heliograph.labelling.samples import Sample
from tests.lib.label_studio.double import EXCHANGES, Double
from tests.lib.labelling.test_task_queue import Played

TOKEN = "0123456789abcdef"
BOXES = [
    Region(shape="box", value="cat", points=[0.1, 0.2, 0.3, 0.4], score=0.5),
    Region(shape="polygon", value="dog", points=[0.1, 0.1, 0.2, 0.1, 0.15, 0.3]),
    Region(shape="point", value="dog", points=[0.5, 0.5]),
]
SESSIONS: dict[str, tuple[dict[str, Any], list[Prediction | None]]] = {
    "digits": ({"classes": ["cat", "dog"], "question": "Cat or dog?"},
               [Prediction(model="abc", score=0.75, result=Result(type="choice", value="dog")), None, None]),
    "boxes": ({"type": "regions", "classes": ["cat", "dog"]},
              [Prediction(model="abc", score=0.5, result=Result(type="regions", regions=BOXES))]),
    "numbers": ({"type": "number", "low": 0, "high": 10},
                [Prediction(model="abc", result=Result(type="number", value=3.5))]),
    "texts": ({"type": "text"}, [Prediction(model="abc", result=Result(type="text", value="a dog"))]),
    "several": ({"type": "choices", "classes": ["cat", "dog"]}, [None]),
}  # fmt: skip
"""Schema and predictions of each recorded session."""


class Bridged:
    """A bridge between a queue and the double; it is also the client that the bridge asks."""

    def __init__(self, session: str, double: Double) -> None:
        self.session = session
        self.double = double
        self.said: list[str] = []
        self.labels = self

    async def open(self, *, samples: bool = True) -> Bridged:
        schema, predictions = SESSIONS[self.session]
        self.played = await Played({"labelSchema": schema}).open()
        for number, prediction in enumerate(predictions if samples else ()):
            sample = _sample(number, image=schema.get("type", "choice") in ("choice", "regions"))
            task = LabelTask(job="job", queue_uid="uid", task=sample.digest, edge="edge-1", data=sample.data,
                             predictions=[prediction] if prediction else [])  # fmt: skip
            await self.played.queue.add(task, sample)
        self.bridge = self.made()
        return self

    def made(self) -> Bridge:
        studio = LabelStudio(self.double.url, TOKEN)
        return Bridge(self, studio, Settings(self.session), self.played.world, self.said.append)  # type: ignore[arg-type]

    async def get(self, name: str) -> dict[str, Any]:
        spec = dump(self.played.queue.spec)
        return {"kind": "LabelQueue", "metadata": {"name": name}, "spec": spec}

    async def ask(self, verb: str, name: str, **fields: Any) -> Any:
        body = registry.declared().features["labels"].own_verbs[verb].body
        return dump(await self.played.queue.answer(verb, body.model_validate({"name": name, **fields}), "bridge"))

    @property
    def given(self) -> list[Annotation]:
        return [each for each in self.played.published if isinstance(each, Annotation)]


def _sample(number: int, image: bool) -> Sample:
    if image:
        content = weights_file.dumps({"x": np.full((4, 4, 3), number, np.uint8)})
        return Sample(sha256(content).hexdigest(), "application/vnd.safetensors", content)
    content = f"sample {number}".encode()
    return Sample(sha256(content).hexdigest(), "text/plain", content)


@pytest.mark.parametrize("session", SESSIONS)
async def test_tasks_go_there_and_annotations_come_back(session: str) -> None:
    with Double(session) as double:
        it = await Bridged(session, double).open()
        await it.bridge.begin()
        await it.bridge.step()  # makes the project, and imports
        await it.bridge.step()  # nobody has annotated anything yet
        assert it.given == []
        await it.bridge.step()
        assert double.differing == []
        first = it.given[0]
        assert (first.labeller, first.source) == ("label-studio:1", "human")
        assert first.origin.startswith("label-studio/") and first.lead_time
        said = [each.result.value for each in it.given if each.result]
        expected = {"digits": ["cat", "cat"], "numbers": [4.5], "texts": ["a cat"], "several": [["cat", "dog"]]}
        assert said == expected.get(session, [None])
        count = len(it.given)
        await it.bridge.step()
        assert len(it.given) == count  # each annotation is one label
        await it.bridge.end()


async def test_geometry_comes_back_in_shares() -> None:
    with Double("boxes") as double:
        it = await Bridged("boxes", double).open()
        await it.bridge.begin()
        for _ in range(3):
            await it.bridge.step()
        (given,) = it.given
        assert given.result is not None
        assert [each.shape for each in given.result.regions] == ["box", "polygon", "polygon", "point"]
        assert given.result.regions[0].points == pytest.approx([0.1, 0.2, 0.3, 0.4])
        assert given.result.regions[1].points == pytest.approx([0.5, 0.5, 0.5, 0.9, 0.45, 0.9, 0.45, 0.5])
        await it.bridge.end()


async def test_a_skipped_annotation_skips_and_tasks_that_are_left_are_given_back() -> None:
    with Double("digits") as double:
        it = await Bridged("digits", double).open()
        await it.bridge.begin()
        for _ in range(3):
            await it.bridge.step()
        await it.bridge.end()
        assert [each.skipped for each in it.given] == [False, True, False]
        assert it.played.queue.index.leased == 0
        assert len(await it.played.claim("anna", 9)) == 1


async def test_a_bridge_that_starts_again_makes_nothing_twice() -> None:
    with Double("digits") as double:
        it = await Bridged("digits", double).open()
        await it.bridge.begin()
        for _ in range(3):
            await it.bridge.step()
        await it.bridge.end()
        count, imports = len(it.given), double.asked.count("POST /api/projects/2/import")
        it.bridge = it.made()
        await it.bridge.begin()
        await it.bridge.step()
        await it.bridge.end()
        await it.bridge.step()
        assert (len(it.given), double.asked.count("POST /api/projects/2/import")) == (count, imports)
        assert double.asked.count("POST /api/projects/") == 1


async def test_a_hint_looks_at_its_task_alone() -> None:
    (event,) = [each["body"] for each in EXCHANGES["webhooks"][:1]]
    with Double("digits") as double:
        it = await Bridged("digits", double).open()
        await it.bridge.begin()
        await it.bridge.step()
        it.bridge.hint(event["annotation"]["task"])
        await it.bridge.step()
        assert [each.labeller for each in it.given] == ["label-studio:1"]  # as in a list of tasks, though it names more
        assert double.asked[-1] == "GET /api/tasks/1/"
        await it.bridge.end()


def test_what_the_real_one_refuses() -> None:
    with Double("refused") as double, pytest.raises(Refused, match="LABEL_STUDIO_API_KEY"):
        LabelStudio(double.url, "wrongtoken").project(1)
    with Double("missing") as double:
        studio = LabelStudio(double.url, TOKEN)
        with pytest.raises(Refused, match="404"):
            studio.project(999999)
        assert [*studio.tasks(999999)] == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, "[1]"), HeliographError),
        ((200, "not json"), Unreachable),
        ((500, "{}"), Unreachable),
        ((302, ""), HeliographError),
        ((400, json.dumps({"detail": "no"})), Refused),
    ],
)
def test_an_answer_of_another_shape_is_said_in_a_sentence(answer: tuple[int, str], error: type[Exception]) -> None:
    with Double("digits") as double:
        double.answer = lambda *_: answer  # type: ignore[method-assign]
        with pytest.raises(error):
            LabelStudio(double.url, TOKEN).project(1)


def test_a_server_that_is_not_there() -> None:
    with Double("digits") as double:
        url = double.url
    with pytest.raises(Unreachable, match="does not answer"):
        LabelStudio(url, TOKEN).project(1)


@pytest.mark.parametrize(
    ("url", "token", "field"),
    [
        ("localhost:8080", TOKEN, "url"),
        ("ftp://host", TOKEN, "url"),
        ("file:///etc/passwd", TOKEN, "url"),
        ("http://user:secret@host", TOKEN, "url"),
        ("http://host", "", "token"),
        ("http://host", "a\nHeader: b", "token"),
    ],
)
def test_an_address_or_a_token_that_cannot_be_used_is_refused_without_being_shown(
    url: str, token: str, field: str
) -> None:
    with pytest.raises(Refused) as refused:
        LabelStudio(url, token)
    assert refused.value.field == field
    assert "secret" not in str(refused.value) and "Header" not in str(refused.value)
