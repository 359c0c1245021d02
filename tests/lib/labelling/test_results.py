"""Results against a schema, samples of hard samples, and oracles' files."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.contract.payloads import DeepAnswer, HardSample, Region, Result
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.errors import HeliographError, Refused
from heliograph.labelling.oracle import read_oracle
from heliograph.labelling.results import check_result, same_result
from heliograph.labelling.samples import predictions_of, sample_of

CHOICE = LabelSchema(classes=["cat", "dog"])
NUMBER = LabelSchema(type="number", low=0, high=10, tolerance=0.5)
REGIONS = LabelSchema(type="regions", classes=["cat", "dog"])
A, B = "a" * 64, "b" * 64


def _box(*points: float, value: str = "cat", shape: Any = "box") -> Region:
    return Region(shape=shape, value=value, points=list(points))


@pytest.mark.parametrize(
    ("schema", "given", "field"),
    [
        (CHOICE, {"type": "text", "value": "cat"}, "result.type"),
        (CHOICE, {"type": "choice", "value": "Cat"}, "result.value"),
        (CHOICE, {"type": "choice", "value": None}, "result.value"),
        (CHOICE, {"type": "choice", "value": 1}, "result.value"),
        (CHOICE, {"type": "choice", "value": "cat", "regions": [_box(0, 0, 1, 1)]}, "result.regions"),
        (LabelSchema(type="choices", classes=["a"]), {"type": "choices", "value": ["a", "a"]}, "result.value"),
        (NUMBER, {"type": "number", "value": 10.1}, "result.value"),
        (NUMBER, {"type": "number", "value": True}, "result.value"),
        (NUMBER, {"type": "number", "value": "5"}, "result.value"),
        (LabelSchema(type="text"), {"type": "text", "value": "  "}, "result.value"),
        (REGIONS, {"type": "regions", "regions": [_box(0, 0, 1, 1), _box(0, 0, 1, 1, value="cow")]},
         "result.regions[1].value"),
    ],
)  # fmt: skip
def test_a_result_that_does_not_fit_names_its_field(schema: LabelSchema, given: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        check_result(Result(**given), schema)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "region",
    [
        {"shape": "box", "points": [0, 0, 1]},
        {"shape": "box", "points": [0.5, 0, 0.6, 0.1]},
        {"shape": "box", "points": [0, 0, 1, 50]},
        {"shape": "point", "points": [0.5, -0.1]},
        {"shape": "polygon", "points": [0, 0, 1, 1]},
        {"shape": "circle", "points": [0, 0]},
    ],
)
def test_geometry_outside_the_image_is_refused(region: dict[str, Any]) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as refused:
        Region.model_validate({"value": "cat", **region})
    assert refusal_of(refused.value).expected


def test_what_counts_as_the_same() -> None:
    def numbers(one: float, other: float) -> bool:
        return same_result(Result(type="number", value=one), Result(type="number", value=other), NUMBER)

    def regions(ones: list[Region], others: list[Region]) -> bool:
        return same_result(Result(type="regions", regions=ones), Result(type="regions", regions=others), REGIONS)

    assert numbers(3, 3.5) and not numbers(3, 3.6)
    left, moved, far = _box(0, 0, 0.4, 0.4), _box(0.05, 0, 0.4, 0.4), _box(0.5, 0.5, 0.4, 0.4)
    assert regions([left, far], [far, moved])
    assert not regions([left], [left, far])
    assert not regions([left], [_box(0, 0, 0.4, 0.4, value="dog")])
    triangle = _box(0, 0, 0.4, 0, 0.4, 0.4, shape="polygon")
    assert regions([triangle], [triangle]) and not regions([triangle], [left])
    assert regions([_box(0.5, 0.5, shape="point")], [_box(0.52, 0.5, shape="point")])
    assert not regions([_box(0.5, 0.5, shape="point")], [_box(0.6, 0.5, shape="point")])


def test_a_hard_samples_bytes_are_its_task() -> None:
    content = weights_file.dumps({"x": np.zeros(3, np.float32)})
    data = WeightsRef(digest=sha256(content).hexdigest(), size=len(content), inline=content)
    array = sample_of(HardSample(job="j", edge="e", sample="of 0.1", data=data))
    text = sample_of(HardSample(job="j", edge="e", sample="s", text="two words"))
    row = sample_of(HardSample(job="j", edge="e", sample="s", columns={"b": 1, "a": None}))
    turned = sample_of(HardSample(job="j", edge="e", sample="s", columns={"a": None, "b": 1}))
    assert array is not None and (array.digest, array.content) == (data.digest, content)
    assert text is not None and text.digest == sha256(b"two words").hexdigest()
    assert row is not None and row == turned and row.content == b'{"a":null,"b":1.0}'
    assert sample_of(HardSample(job="j", edge="e", sample="s")) is None
    for broken in (data.model_copy(update={"inline": content[:-1]}), data.model_copy(update={"digest": "0" * 64})):
        with pytest.raises(Refused) as refused:
            sample_of(HardSample(job="j", edge="e", sample="s", data=broken))
        assert refused.value.code == "bad-weights"


@pytest.mark.parametrize(
    ("scores", "answer", "said"),
    [
        ([0.4, 0.6], None, [("edge", "dog", 0.6)]),
        ([2.0, 0.0], None, [("edge", "cat", pytest.approx(0.881, abs=1e-3))]),  # logits
        ([0.4, 0.6], DeepAnswer(scores=[0.9, 0.1], model="m"), [("edge", "dog", 0.6), ("m", "cat", 0.9)]),
        ([], DeepAnswer(result="dog"), [("deep", "dog", None)]),
        ([0.2, 0.3, 0.5], DeepAnswer(result="cow"), []),
        ([], DeepAnswer(result=1), []),
    ],
)
def test_the_models_scores_are_predictions_where_they_fit(scores: Any, answer: Any, said: Any) -> None:
    hard = HardSample(job="j", edge="e", sample="s", scores=scores, answer=answer)
    assert [(each.model, each.result.value, each.score) for each in predictions_of(hard, CHOICE)] == said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", f"task,label\n{A},cat\n{B},dog\n"),
        ("labels.csv", f"label,other,task\ncat,1,{A}\ndog,2,{B}\n\n"),
        ("labels.jsonl", f'{{"task": "{A}", "label": "cat"}}\n\n{{"task": "{B}", "label": "dog"}}\n'),
    ],
)
def test_an_oracle_reads_csv_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = read_oracle(tmp_path / name, CHOICE)
    assert {task: result.value for task, result in found.items()} == {A: "cat", B: "dog"}


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("l.csv", f"task,label\n{A},cat\n{B},cow\n".encode(), "line 3"),
        ("l.csv", f"task,label\n{A},cat\n{A},dog\n".encode(), "line 3"),
        ("l.csv", b"task,label\nabc,cat\n", "line 2"),
        ("l.csv", f"task,label\n{A}\n".encode(), "line 2"),
        ("l.csv", b"sample;label\n", "first line"),
        ("l.csv", b"", "first line"),
        ("l.csv", b"task,label\n", "l.csv"),
        ("l.csv", b"\xff\xfe\x00", "UTF-8"),
        ("l.jsonl", b"[1]\n", "line 1"),
        ("l.jsonl", b"[" * 10_000, "line 1"),
        ("l.jsonl", f'{{"task": "{A}", "label": {{}}}}\n'.encode(), "line 1"),
    ],
)
def test_a_bad_line_of_an_oracle_is_named(tmp_path: Path, name: str, content: bytes, place: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=place):
        read_oracle(tmp_path / name, CHOICE)


def test_an_oracle_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HeliographError, match="No such file"):
        read_oracle(tmp_path / "none.csv", CHOICE)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "choice"},
        {"classes": ["cat", "cat"]},
        {"classes": ["cat\n"]},
        {"classes": [""]},
        {"type": "number", "low": 2, "high": 1},
        {"type": "hologram"},
    ],
)
def test_a_schema_that_cannot_be_labelled_is_refused(schema: dict[str, Any]) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        LabelSchema.model_validate(schema)
