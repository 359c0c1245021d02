"""``heliograph label``: samples in a terminal, labels from keys and from files."""

from __future__ import annotations

import os
import pty
import re
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.contract.payloads import LabelTask, SampleData
from heliograph.cli.label.drawing import drawn
from heliograph.cli.label.keys import Keyboard, keys_of


def _task(content: bytes | None, media_type: str = "application/vnd.safetensors") -> LabelTask:
    data = SampleData(media_type=media_type, size=len(content or b""), inline=content)
    return LabelTask(job="j", queue_uid="u", task="0" * 64, edge="e", data=data)


def _array(x: Any, **more: Any) -> bytes:
    return weights_file.dumps({"x": np.asarray(x), **more})


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (3, 8, 8), (8, 8, 4), (64,)])
def test_an_image_is_drawn_from_bright_to_dark(shape: tuple[int, ...]) -> None:
    """Its left half is bright; a small one is drawn larger."""
    x = np.zeros((8, 8), np.uint8)
    x[:, :4] = 255
    if len(shape) == 3:
        x = np.repeat(x[..., None], min(shape), 2) if shape[0] == 8 else np.repeat(x[None], 3, 0)
    lines = drawn(_task(_array(x.reshape(shape))), coloured=False)
    assert len(lines) == 20 and set(map(len, lines)) == {40}
    assert {line[:20] for line in lines} == {"@" * 20} and {line[20:] for line in lines} == {" " * 20}


def test_a_coloured_image_has_two_pixels_in_a_character() -> None:
    x = np.zeros((2, 24, 3), np.uint8)
    x[0, :, 0] = 200
    (line,) = drawn(_task(_array(x)), coloured=True)
    assert re.fullmatch(r"(\x1b\[38;2;200;0;0;48;2;0;0;0m▀){24}\x1b\[0m", line)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (_task(b"two\x1b[31m words", "text/plain"), "two [31m words"),
        (_task(b'{"age": 41, "name\\u001b": "x"}', "application/json"), "age    41\nname   x"),
        (_task(b"[1", "application/json"), "cannot be read"),
        (_task(_array([0.0, 1.0, np.nan])), "▁█?"),
        (_task(_array(np.zeros((2, 3, 4, 5)))), "2 × 3 × 4 × 5, float64"),
        (_task(_array(np.full((4, 4), np.nan, np.float32))), "    "),
        (_task(b"\x00" * 20), "cannot be read"),
        (_task(weights_file.dumps({"y": np.zeros(1)})), "no array x"),
        (_task(b"\x89PNG", "image/png"), "image/png"),
        (_task(None), "is not here"),
    ],
)
def test_what_is_no_image_is_shown_as_well_as_it_can_be(task: LabelTask, text: str) -> None:
    assert text in "\n".join(drawn(task, coloured=False))


def test_a_large_image_fits_the_terminal() -> None:
    lines = drawn(_task(_array(np.zeros((200, 300, 3), np.uint8))), coloured=False, width=40, height=10)
    assert len(lines) <= 10 and max(map(len, lines)) <= 40


def test_each_class_has_a_key_that_means_nothing_else() -> None:
    assert keys_of(["cat", "dog"]) == {"1": "cat", "2": "dog"}
    many = keys_of([f"{n}" for n in range(33)])
    assert len(many) == 33 and not set(many) & set("suq?")
    assert keys_of([f"{n}" for n in range(34)]) == {}


def test_a_class_that_is_a_key_has_its_own() -> None:
    digits = [f"{n}" for n in range(10)]
    assert keys_of(digits) == dict(zip(digits, digits, strict=True))
    assert keys_of(["9", "1", "other"]) == {"9": "9", "1": "1", "2": "other"}
    assert keys_of(["q", "s", "a"]) == {"1": "q", "2": "s", "a": "a"}  # q and s quit and skip


async def test_keys_come_one_at_a_time_and_the_terminal_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave, "r") as terminal, os.fdopen(master, "w") as typing:
        monkeypatch.setattr("sys.stdin", terminal)
        before = termios.tcgetattr(slave)
        with Keyboard() as keyboard:
            typing.write("1é\r")
            typing.flush()
            assert [await keyboard.key() for _ in range(3)] == ["1", "é", "\n"]
            typing.write("catt\x7f\n")
            typing.flush()
            assert await keyboard.line() == "cat"
        assert termios.tcgetattr(slave) == before
