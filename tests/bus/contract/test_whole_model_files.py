"""Files of whole models are proven before a runtime reads them."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.onnx_file import read_onnx
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.tflite_file import read_tflite
from heliograph.bus.contract.weights_header import check_inline
from heliograph.core.errors import Refused
from tests.onnx_writer import model

WEIGHTS = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]


def test_an_onnx_model_tells_its_inputs_outputs_opsets_and_classes() -> None:
    found = read_onnx(memoryview(model(WEIGHTS, classes='["cat", "dog"]')), "m")
    (taken,), (given_,) = found.signature.inputs, found.signature.outputs
    assert (taken.name, taken.dtype, taken.shape) == ("x", "float32", [-1, 3])
    assert (given_.name, given_.shape) == ("scores", [-1, 2])
    assert found.signature.classes == ("cat", "dog")
    assert found.opsets == {"": 13}


@pytest.mark.parametrize("said", ['{"0": "cat", "1": "dog"}', "cat, dog"])
def test_classes_are_read_as_other_exporters_write_them(said: str) -> None:
    assert read_onnx(memoryview(model(WEIGHTS, classes=said)), "m").signature.classes == ("cat", "dog")


def test_a_model_whose_weights_lie_in_another_file_is_refused() -> None:
    with pytest.raises(Refused, match=r"one file.*external_data=False"):
        read_onnx(memoryview(model(WEIGHTS, external=True)), "m")


@given(st.integers(0, len(model(WEIGHTS)) - 1))
def test_every_truncated_onnx_model_is_refused(length: int) -> None:
    with pytest.raises(Refused):
        read_onnx(memoryview(model(WEIGHTS)[:length]), "m")


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_bytes_do_more_than_be_refused(data: bytes, at: int) -> None:
    whole = model(WEIGHTS)
    for each in (data, whole[:at] + data + whole[at:]):
        try:
            read_onnx(memoryview(each), "m")
        except Refused as error:
            assert error.code == "bad-weights"
    for each in (data, data[:4] + b"TFL3" + data[4:]):
        with pytest.raises(Refused):
            read_tflite(memoryview(each), "m")


@pytest.mark.parametrize(
    ("format", "data"),
    [("onnx", b"no model"), ("tflite", model(WEIGHTS)), ("safetensors", model(WEIGHTS))],
)
def test_a_file_of_another_format_than_its_reference_says_is_refused(format: str, data: bytes) -> None:
    fields = {"digest": sha256(data).hexdigest(), "size": len(data), "inline": data, "format": format}
    ref = WeightsRef.model_validate(fields)
    with pytest.raises(Refused) as refused:
        check_inline(ref)
    assert refused.value.code == "bad-weights"


def test_a_reference_to_safetensors_is_written_as_release_0_1_reads_it() -> None:
    assert "format" not in WeightsRef(digest="0" * 64, size=1).model_dump(mode="json")
