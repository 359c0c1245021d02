"""A service's worker serves a file without code of the user's; real runtimes, in this process and in a trial's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from heliograph.bus.contract.payloads import Assignment, InferTask, ServedModel
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.inference.edge import JointInference
from heliograph.inference.formats import open_model
from heliograph.inference.predictors.whole_model import WholeModel
from heliograph.inference.versions import copy_with, load_version
from heliograph.workers.trial import Trial, objection
from tests.onnx_writer import model

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
        ({"y": 1.0}, r"the columns x \(float32"),
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


def test_a_tensorflow_lite_file_answers_and_no_part_of_one_does(framework: Callable[[str], ModuleType]) -> None:
    """The file multiplies three numbers with WEIGHTS; TensorFlow's converter has written it."""
    framework("ai_edge_litert")
    content = (Path(__file__).parents[1] / "data" / "formats" / "linear.tflite").read_bytes()
    whole = WholeModel()
    load_version(whole, open_model("tflite", content, "m"))
    served = JointInference("d", whole, rule="never", node="mqtt://127.0.0.1:9")
    assert [served.infer(x).result for x in (FIRST, FIRST[[1, 0, 2]])] == [0, 1]
    with pytest.raises(Refused, match="for serving_default_x"):
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
