"""A machine's name becomes a label, and no two machines' names the same one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.names import is_label, join_labels, label_from

NODES = st.text(alphabet="ab7.-_ABé", min_size=0, max_size=253)


@pytest.mark.parametrize("name", ["edge-7", "a", "7", "x" * 63, "a--b"])
def test_a_label_is_its_own(name: str) -> None:
    assert label_from(name) == name


@pytest.mark.parametrize(
    ("name", "begins"),
    [("Edge-7.Hall.example", "edge-7-hall-example-"), ("a.b", "a-b-"), ("...", "node-"), ("", "node-"),
     ("x" * 253, "x" * 50 + "-"), ("x" * 49 + ".y", "x" * 49 + "-")],
)  # fmt: skip
def test_another_name_is_readable_and_has_a_hash(name: str, begins: str) -> None:
    label = label_from(name)
    assert label.startswith(begins) and len(label) == len(begins) + 12 and is_label(label)


@given(NODES, NODES)
def test_two_names_give_two_labels(one: str, other: str) -> None:
    assert is_label(label_from(one))
    assert (label_from(one) == label_from(other)) == (one == other)
    assert is_label(join_labels("hall", label_from(one)))
