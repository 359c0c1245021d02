"""Saying a line never raises, whatever characters it has and whatever the output is."""

from __future__ import annotations

import io
import sys

import pytest

from heliograph.core.errors import Refused
from heliograph.core.text import encodable, never_raising, print_line

HARD = "caf\u00e9 \U0001f600 \ud83d \x1b[2J \0"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_a_line_of_any_characters_is_printed_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    print_line(HARD)
    assert "\\ud83d" in raw.getvalue().decode(encoding)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_a_process_outlives_its_output(error: Exception) -> None:
    def closed(line: str) -> None:
        raise error

    never_raising(closed)("a line")


def test_nobody_whose_words_are_said_begins_a_line_of_his_own() -> None:
    lines: list[str] = []
    never_raising(lines.append)("refused: got x\r\nagent edge-1 is ready\u2028\tand so on\x1b[1A")
    assert lines == ["refused: got x\\r\\nagent edge-1 is ready\\u2028\tand so on\\x1b[1A"]


def test_an_output_of_ascii_alone_gets_escapes() -> None:
    lines: list[bytes] = []
    never_raising(lambda line: lines.append(line.encode("ascii")))(HARD)
    assert b"caf\\xe9" in lines[0]


def test_a_refusal_can_be_sent_and_printed() -> None:
    error = Refused("invalid", topic="a\ud83d", field="\ud83d", expected="\ud83d", got={"\ud83d": 1}, hint="\ud83d")
    str(error).encode()
    assert all(value.encode() for value in error.as_dict().values())
    assert encodable("\u00e9") == "\u00e9"
