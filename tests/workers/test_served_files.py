"""A service's worker serves a file without code of the user's; real runtimes, in this process and in a trial's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import parse
from heliograph.bus.contract.payloads import Assignment, InferTask, ServedModel
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.inference.edge import JointInference
from heliograph.inference.formats import open_model
from heliograph.inference.inputs import pack_request, request_in, sample_in
from heliograph.inference.predictors.whole_model import WholeModel
from heliograph.inference.versions import copy_with, load_version
from heliograph.workers.trial import Trial, objection
from tests.onnx_writer import labelled, model

WEIGHTS = [[9.0, 0.0], [0.0, 9.0], [0.0, 0.0]]
SWAPPED = [[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]
FIRST = np.asarray([1.0, 0.0, 0.0], np.float32)


@pytest.fixture(autouse=True)
def _runtime(framework: Callable[[str], ModuleType]) -> None:
    framework("onnxruntime")


def _served(content: bytes, output: str = "") -> JointInference:
    whole = WholeModel(output)
    load_version(whole, open_model("onnx", content, "m"))
    return JointInference("digits", whole, rule="never", node="mqtt://127.0.0.1:9")


def test_an_onnx_file_answers_with_the_classes_that_it_names_and_probabilities() -> None:
    answer = _served(model(WEIGHTS, classes="cat,dog")).infer(FIRST.tolist())
    assert answer.result == "cat" and sum(answer.scores) == pytest.approx(1)


def test_a_file_of_a_batch_of_one_answers_too() -> None:
    assert _served(model(WEIGHTS, batch=1)).infer(FIRST).result == 0


@pytest.mark.parametrize(
    ("x", "why"),
    [
        ([1.0, 2.0], r"shape \(3\) for x.*shape \(2,\)"),
        ([[1.0, 0.0, 0.0]], r"Give x\[0\]"),
        ("text", "numbers for x"),
        ({"y": 1.0}, r"the inputs x \(float32"),
        (np.asarray([1e300, 0, 0]), "numbers of float32"),
        ([float("nan"), 0.0, 0.0], "finite"),
        (np.zeros((0, 1 << 30)), "shape"),
    ],
)
def test_a_sample_that_is_none_of_the_model_s_is_refused_in_its_own_words(x: object, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        _served(model(WEIGHTS)).infer(x)
    assert refused.value.code == "invalid"


@pytest.mark.parametrize(
    ("content", "why"),
    [(model(WEIGHTS, operator="Conjure"), "ONNX Runtime .* can run"), (model(WEIGHTS, opset=999), "opset"),
     (model(WEIGHTS, batch=8), "dynamic batch axis")],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused_and_the_earlier_one_answers(content: bytes, why: str) -> None:
    whole = WholeModel()
    load_version(whole, open_model("onnx", model(WEIGHTS), "m"))
    with pytest.raises(Refused, match=why):
        load_version(whole, open_model("onnx", content, "m"))
    assert JointInference("digits", whole, rule="never", node="mqtt://127.0.0.1:9").infer(FIRST).result == 0


def test_an_output_that_the_model_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(Refused, match="scores"):
        _served(model(WEIGHTS), output="logits")


def test_a_candidate_answers_on_a_copy_and_the_serving_model_stays() -> None:
    whole = WholeModel()
    load_version(whole, open_model("onnx", model(WEIGHTS), "m"))
    other = copy_with(whole, open_model("onnx", model(SWAPPED), "n"))
    sides = [JointInference("d", each, rule="never", node="mqtt://127.0.0.1:9") for each in (whole, other)]
    assert [each.infer(FIRST).result for each in sides] == [0, 1]


def _lite(name: str, **options: Any) -> tuple[bytes, JointInference]:
    """Return a file that TensorFlow's converter has written, and what serves it."""
    content = (Path(__file__).parents[1] / "data" / "formats" / f"{name}.tflite").read_bytes()
    whole = WholeModel()
    load_version(whole, open_model("tflite", content, "m"))
    return content, JointInference("d", whole, rule="never", node="mqtt://127.0.0.1:9", **options)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_quantised_file_takes_and_gives_floats_and_takes_its_own_numbers_as_they_are(
    framework: Callable[[str], ModuleType], kind: str
) -> None:
    """The files multiply as linear.tflite does; -1 to 1 is -128 to 127, or 0 to 255."""
    framework("ai_edge_litert")
    _, served = _lite(f"linear_{kind}", outputs="logits")
    zero = 128 if kind == "uint8" else 0
    own = np.asarray([zero, 64 + zero, zero], kind)
    assert [served.infer(x).result for x in ([0.5, 0.0, 0.0], [0.0, 0.5, 0.0], own)] == [0, 1, 1]
    again = served.infer([0.0, 64 * 0.0078, 0.0])
    assert served.infer(own).scores == pytest.approx(again.scores, abs=0.05)
    with pytest.raises(Refused, match="numbers for x"):
        served.infer("text")


def test_a_file_with_several_inputs_takes_each_by_its_name(framework: Callable[[str], ModuleType]) -> None:
    framework("ai_edge_litert")
    _, served = _lite("two_inputs")
    image = np.asarray([[0.0, 1.0], [0.0, 0.0]], np.float32)
    as_sent = sample_in(request_in(parse(pack_request({"image": image, "age": 0.0}, 1.0), "t"), "t"), "t")
    by_hand = sample_in({"input": {"inputs": {"image": [[1, 0], [0, 0]], "age": 0}}}, "t")
    assert [served.infer(x).result for x in (as_sent, by_hand)] == [1, 0]
    for x, why in (
        (image, r"the inputs age \(float32, \(any, 1\)\), image .*got one array"),
        ({"image": image}, "the inputs .* got image"),
        ({"image": image[0], "age": 0.0}, r"shape \(2, 2\) for image, got shape \(2,\)"),
        ({"image": image, "age": "old"}, "numbers for age, got a text"),
    ):
        with pytest.raises(Refused, match=why) as refused:
            served.infer(x)
        assert refused.value.code == "invalid"


@pytest.mark.parametrize(
    ("inputs", "field"),
    [({"a": {"columns": {"b": 1}}}, "input.inputs.a"), ({"a": [1, [2]]}, "input.inputs.a"),
     ({"a": {"dtype": "float32", "shape": [2], "data": ""}}, "input.inputs.a.data"), ({}, "input.inputs"),
     ([1], "input.inputs"), ({str(n): 1 for n in range(33)}, "input.inputs")],
)  # fmt: skip
def test_a_wrong_one_of_several_inputs_is_named(inputs: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        sample_in({"input": {"inputs": inputs}}, "t")
    assert (refused.value.code, refused.value.field) == ("invalid", field)


def test_the_labels_that_a_classifier_gives_are_its_answers_unless_they_have_names() -> None:
    whole = WholeModel()
    load_version(whole, open_model("onnx", labelled(WEIGHTS, [3, 7]), "m"))
    served = JointInference("d", whole, rule="never", node="mqtt://127.0.0.1:9")
    answer = served.infer(FIRST)
    assert (answer.result, len(answer.scores)) == (3, 2)
    named = JointInference("d", whole, rule="never", classes=["cat", "dog"], node="mqtt://127.0.0.1:9")
    assert named.infer(FIRST).result == "cat"


def test_a_regression_answers_numbers() -> None:
    whole = WholeModel()
    load_version(whole, open_model("onnx", model([[2.0], [3.0], [4.0]]), "m"))
    served = JointInference("d", whole, rule="never", outputs="values", node="mqtt://127.0.0.1:9")
    assert served.infer([1.0, 1.0, 0.0]).result == 5.0
    unsaid = JointInference("d", whole, rule="never", node="mqtt://127.0.0.1:9")
    with pytest.raises(Refused, match="outputs"):
        unsaid.infer([1.0, 1.0, 0.0])


def test_a_tensorflow_lite_file_answers_and_no_part_of_one_does(framework: Callable[[str], ModuleType]) -> None:
    """The file multiplies three numbers with WEIGHTS; TensorFlow's converter has written it."""
    framework("ai_edge_litert")
    content, served = _lite("linear")
    assert [served.infer(x).result for x in (FIRST, FIRST[[1, 0, 2]])] == [0, 1]
    with pytest.raises(Refused, match=r"for x$|for x,"):
        served.infer(FIRST[:2])
    for length in (*range(0, len(content), 50), len(content) - 1):
        with pytest.raises(Refused):
            open_model("tflite", content[:length], "m")


@pytest.mark.parametrize(("content", "why"), [(model(WEIGHTS), ""), (model(WEIGHTS, operator="Conjure"), "can run")])
async def test_a_candidate_is_tried_in_a_process_of_its_own(tmp_path: Path, content: bytes, why: str) -> None:
    task = InferTask(worker="d-infer", job="d", job_uid="u", generation=1, served=ServedModel(format="onnx"))
    trial = Trial(Assignment(number=1, task=task, edge="e"), [], "0" * 64, content)
    found = await objection(trial, World())
    assert (why in found) if why else found == ""
