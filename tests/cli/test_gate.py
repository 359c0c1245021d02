"""``heliograph gate``: the verdict on a file of both models' answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.core.membership import EvaluationSet, HeldOut

Typed = Callable[..., Any]
HEAD = "sample,label,champion,challenger\n"
GAIN = [("cat", "dog", "cat")] * 60 + [("cat", "cat", "cat")] * 300 + [("dog", "dog", "cat")] * 10


def _file(directory: Path, rows: list[tuple[str, str, str]], ids: list[str] | None = None) -> str:
    path = directory / "outcomes.csv"
    names = ids or [f"s{number}" for number in range(len(rows))]
    path.write_text(HEAD + "".join(f"{name},{','.join(row)}\n" for name, row in zip(names, rows, strict=True)))
    return str(path)


def test_a_gain_passes_and_a_class_below_its_floor_fails(tmp_path: Path, typed: Typed) -> None:
    file = _file(tmp_path, GAIN)
    ran = typed("gate", file)
    assert ran.code == 0
    assert ran.out.startswith("passes: accuracy 0.8378 -> 0.9730 on 370 samples, gain above +0.")
    ran = typed("gate", file, "--floor-of", "dog=0.5", "--least-class-support", "10")
    assert ran.code == 1
    assert ran.out.startswith("fails: ") and "class dog: recall 0.0000 is below its floor of 0.5000" in ran.out
    ran = typed("gate", file, "--least-support", "500")
    assert (ran.code, ran.out.split(":")[0]) == (1, "undecided")


def test_a_program_reads_the_verdict_with_the_evaluation_sets_version(tmp_path: Path, typed: Typed) -> None:
    rule = HeldOut(10, "2026")
    ids = [name for number in range(10_000) if (name := f"s{number}") in rule][: len(GAIN)]
    file = _file(tmp_path, GAIN, ids)
    ran = typed("gate", file, "--held-out", "10", "--salt", "2026", "-o", "json")
    told = json.loads(ran.out)
    assert (ran.code, told["decision"], told["passes"], told["support"]) == (0, "passes", True, 370)
    assert (told["test"]["gained"], told["evaluation"]) == (60, EvaluationSet.of(rule, ids).version)
    ran = typed("gate", file, "--held-out", "10")
    assert (ran.code, "held-out 10 %" in ran.error) == (1, True)


@pytest.mark.parametrize(("text", "said"), [
    ("", "line 1: expected the columns"),
    ("sample,label,champion\ns,a,a\n", "none named challenger"),
    (HEAD + "s,a,a\n", "line 2: expected four cells"),
    (HEAD + "s,a,a,\n", "line 2: expected four cells"),
    (HEAD + "s,a,a,b\ns,a,a,b\n", "expected each sample once, got s"),
    (HEAD, "at least one sample"),
    (HEAD + f"s,a,a,{'b' * 1025}\n", "1 to 1024 characters"),
    (HEAD + f"s,a,a,{'b' * 200_000}\n", "line 2"),
])  # fmt: skip
def test_a_file_that_is_none_is_refused_by_its_line(tmp_path: Path, typed: Typed, text: str, said: str) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text(text)
    ran = typed("gate", file)
    assert ran.code == 1
    assert said in ran.error


def test_other_bytes_and_a_missing_file_are_refused(tmp_path: Path, typed: Typed) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_bytes(HEAD.encode() + b"\xff\xfe,a,b,c\n")
    assert "UTF-8" in typed("gate", file).error
    assert "none.csv" in typed("gate", tmp_path / "none.csv").error


@pytest.mark.parametrize("option", ["dog", "=0.5", "dog=much"])
def test_a_floor_that_is_none_is_a_usage_error(tmp_path: Path, typed: Typed, option: str) -> None:
    ran = typed("gate", _file(tmp_path, GAIN), "--floor-of", option)
    assert ran.code == 2
    assert "CLASS=RECALL" in ran.error
