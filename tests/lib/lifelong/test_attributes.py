"""Attributes: their one form, which belong together, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.lifelong.attributes import MAX_TEXT, agree, attributes_of, read, written

texts = st.text(min_size=1, max_size=MAX_TEXT)


@given(st.dictionaries(texts, st.text(max_size=MAX_TEXT), max_size=16))
def test_attributes_come_back_from_a_file(attributes: dict[str, str]) -> None:
    assert read(written(attributes_of(attributes)), "attributes") == attributes


def test_numbers_are_texts_and_names_are_sorted() -> None:
    found = attributes_of({"site": "roof", "camera": np.int64(3), "night": True})
    assert found == {"camera": "3", "night": "true", "site": "roof"} and list(found) == sorted(found)
    assert attributes_of(None) == {}


def test_what_both_have_has_to_be_one_value() -> None:
    assert agree({"site": "roof"}, {"site": "roof", "night": "true"})
    assert not agree({"site": "roof"}, {"site": "yard"})
    assert agree({"site": "roof"}, {}) and agree({}, {"site": "roof"})


@pytest.mark.parametrize("value", [
    ["roof"], {"": "x"}, {1: "x"}, {"a" * 129: "x"}, {"a": "x" * 129}, {"a": ["x"]}, {"a": None},
    {str(number): "x" for number in range(17)}, {"a": np.zeros(2)}, {"a": 10**200},
])  # fmt: skip
def test_other_attributes_are_refused(value: Any) -> None:
    with pytest.raises(Refused, match="field attributes"):
        attributes_of(value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 5000, b'{"a": {}}'])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(Refused, match="field task/0/attributes"):
        read(content, "task/0/attributes")
