"""Names of classes travel with a version; what is none is passed over."""

from __future__ import annotations

import json

import pytest

from heliograph.incremental.class_names import CLASSES, labels_with, read, written


@pytest.mark.parametrize("names", [(), ("cat",), ("Käse", "", "\x00", "a" * 100)])
def test_names_are_read_as_they_were_written(names: tuple[str, ...]) -> None:
    assert read(written(names)) == names


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '"cat"', "[" * 10_000, json.dumps(["a"] * 1001)])
def test_what_is_no_list_of_names_is_passed_over(text: str) -> None:
    assert read({CLASSES: text}) == ()


@pytest.mark.parametrize(("own", "names", "labels"), [
    (None, ["a", "b"], None), (("a",), [], ("a",)), (("a",), ["a", "b"], ("a", "b")), (("a", "b"), ["a"], ("a",)),
    ((0, 1), ["0", "1", "2"], (0, 1, "2")), (("b",), ["a", "b"], ("b",)),
])  # fmt: skip
def test_labels_are_the_scripts_own_and_then_the_versions(own: object, names: list[str], labels: object) -> None:
    assert labels_with(own, names) == labels  # type: ignore[arg-type]
