"""Requests arrive unchanged; invalid ones are refused with the name of the bad field."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliograph.bus.contract.event import parse
from heliograph.core.errors import Refused
from heliograph.inference.inputs import DTYPES, as_tree, pack, pack_request, request_in, sample_in

TOPIC = "inference/digits/request"
ARRAYS = hnp.arrays(
    st.sampled_from(DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
)


def _received(body: bytes) -> Any:
    return sample_in(request_in(parse(body, TOPIC), TOPIC), TOPIC)


@given(ARRAYS)
def test_an_array_arrives_as_it_was(x: Any) -> None:
    came = _received(pack_request(x, 0.5))
    assert came.dtype == x.dtype
    assert came.shape == x.shape
    np.testing.assert_array_equal(came, x)


@pytest.mark.parametrize("x", [np.arange(12).reshape(3, 4).T, np.arange(4, dtype=">i4"), np.arange(9)[::2]])
def test_arrays_of_another_memory_order_arrive_too(x: Any) -> None:
    np.testing.assert_array_equal(_received(pack_request(x, 0.5)), x)


def test_json_carries_lists_or_base64() -> None:
    assert _received(json.dumps({"input": [[1, 2], [3, 4.5]]}).encode()).tolist() == [[1, 2], [3, 4.5]]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = base64.b64encode(x.tobytes()).decode()
    tree = {"input": {"dtype": "float32", "shape": [2, 3], "data": data}, "deadline": 0.2}
    np.testing.assert_array_equal(_received(json.dumps(tree).encode()), x)


def test_a_request_for_a_frame_is_hardly_larger_than_the_frame() -> None:
    frame = np.zeros((1080, 1920, 3), np.uint8)
    assert len(pack_request(frame, 0.5)) < frame.nbytes + 200 < 6_300_000


GOOD = {"dtype": "float32", "shape": [2], "data": bytes(8)}


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({}, "input", "nothing"),
        ({"input": "text"}, "input", "a list of numbers"),
        ({"input": [[1], [1, 2]]}, "input", "rows of the same length"),
        ({"input": [1, "a"]}, "input", "list of numbers"),
        ({"input": GOOD | {"dtype": "object"}}, "input.dtype", "float64, float32"),
        ({"input": GOOD | {"dtype": None}}, "input.dtype", "float64, float32"),
        ({"input": GOOD | {"shape": [3]}}, "input.data", "12 bytes for float32 of shape"),
        ({"input": GOOD | {"shape": [-2]}}, "input.shape", "a list of sizes"),
        ({"input": GOOD | {"shape": [1 << 40]}}, "input.shape", "a list of sizes"),
        ({"input": GOOD | {"shape": [1 << 30] * 16}}, "input.data", "got 8 bytes"),
        ({"input": GOOD | {"shape": "2"}}, "input.shape", "a list of sizes"),
        ({"input": GOOD | {"data": bytes(7)}}, "input.data", "got 7 bytes"),
        ({"input": GOOD | {"data": "!"}}, "input.data", "base64"),
        ({"input": GOOD | {"data": None}}, "input.data", "bytes, or base64"),
        ({"input": [1.0, None]}, "input", "finite"),
        ({"input": {"text": 3}}, "input.text", "a text"),
        ({"input": {"columns": {}}}, "input.columns", "a mapping of names"),
        ({"input": {"columns": {"a": [1]}}}, "input.columns.a", "a number, a text"),
        ({"input": [1e39]}, "input", "finite"),
        ({"input": {"image": b"no image"}}, "input.image", "expected"),
    ],
)
def test_invalid_input_is_refused_with_its_field(given: dict[str, Any], field: str, expected: str) -> None:
    with pytest.raises(Refused) as refused:
        _received(pack(given))
    assert refused.value.field == field
    assert refused.value.topic == TOPIC
    assert expected in str(refused.value)


@pytest.mark.parametrize("deadline", [0, -1, "1", True, math.inf, math.nan])
def test_a_deadline_must_be_above_zero(deadline: Any) -> None:
    with pytest.raises(Refused) as refused:
        request_in({"input": [1], "deadline": deadline}, TOPIC)
    assert refused.value.field == "deadline"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_refused(body: bytes) -> None:
    try:
        _received(body)
    except Refused as refused:
        assert refused.topic == TOPIC


def test_an_array_of_objects_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        as_tree(np.array([None]))
    assert refused.value.field == "input.dtype"
