"""``simulate``: output, files and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SMALL = """\
name: small
description: Three edges, two rounds.
duration: 5m
edges: [{number: 3}]
data: {set: synthetic}
jobs: [{name: one, rounds: 2, training: {hidden: 8}}]
expect:
  - {field: jobs.one.phase, equals: Succeeded}
  - {field: jobs.one.counted, equals: 6}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return file


def test_simulate_prints_the_outcome_and_writes_the_page(typed: Any, small: Path, tmp_path: Path) -> None:
    ran = typed("simulate", small, "--seed", "7", "--report", tmp_path / "out.html")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("small, seed 7:\njob one: succeeded, 2 of 2 rounds in ")
    assert "✓ jobs.one.counted: expected 6, got 6\n" in ran.out
    page = (tmp_path / "out.html").read_text()
    assert "<h1>small, seed 7</h1>" in page
    assert "Three edges, two rounds." in page


def test_a_missed_expectation_is_exit_code_1(typed: Any, small: Path) -> None:
    small.write_text(SMALL.replace("equals: 6", "equals: 7"))
    ran = typed("simulate", small)
    assert ran.code == 1
    assert "✗ jobs.one.counted: expected 7, got 6\n" in ran.out
    assert ran.err == "error: 1 of 2 expectations do not hold\n"


def test_usage_errors_are_exit_code_2(typed: Any, small: Path) -> None:
    assert typed("simulate").code == 2
    ran = typed("simulate", small, "--report", "/nowhere/x.html")
    assert ran.code == 2
    assert "--report: expected a file in a directory that exists, got /nowhere/x.html" in ran.err
    assert typed("simulate", small, "--seed", "-1").code == 2


def test_an_invalid_scenario_is_one_line(typed: Any, small: Path) -> None:
    small.write_text(SMALL.replace("equals: 6", "minimum: 7, maximum: 6"))
    ran = typed("simulate", small)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"error: {small}:9 field expect[1].minimum: expected at most maximum, 6, got 7\n"
    assert "did you mean quickstart?" in typed("simulate", "quikstart").err
    assert "at most 16 edges with --real" in typed("simulate", "factory-week", "--real").err


def test_the_list_names_the_built_in_scenarios(typed: Any) -> None:
    ran = typed("simulate", "--list")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == [
        "byzantine", "cold-start", "factory-week", "flaky-links", "non-iid", "quickstart", "stragglers",
        "ten-thousand-edges",
    ]  # fmt: skip
