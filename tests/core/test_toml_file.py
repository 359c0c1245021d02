"""A file in TOML is read, or refused with what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.core.errors import Refused
from heliograph.core.toml_file import MAX_SIZE, read_toml


def test_the_document_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('[a]\nb = "ü"\n', encoding="utf-8")
    assert read_toml(file, "a file") == {"a": {"b": "ü"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = ", "expected TOML, got"), (b"\xff", "expected TOML, got"), (b"a = " + b"[" * 5000, "expected TOML, got"),
        (b"#" * (MAX_SIZE + 1), f"expected at most {MAX_SIZE} bytes, got more"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(content)
    with pytest.raises(Refused, match=words) as caught:
        read_toml(file, "a file")
    assert caught.value.topic == str(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="expected a file with names, got No such file or directory"):
        read_toml(tmp_path / "none.toml", "a file with names")
