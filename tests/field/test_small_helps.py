"""The small helps of the command line: another way to start it, completion, and reasons where nothing happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from heliograph import __version__
from heliograph.bus.traces.writing import TraceWriter
from heliograph.cli.app import app
from heliograph.cli.asking.kinds import complete_target

TRACES = Path(__file__).parents[1] / "traces"
USERS_TEST = """
import pytest
import typer
async def test_it(trace, tmp_path):
    run = await trace("flaky.mcap").replay("aggregation")
    assert run.published == run.recorded
    (tmp_path / "ran").touch()
async def test_a_difference(trace):
    run = await trace("flaky.mcap").replay("aggregation")
    assert run.published == run.recorded[1:]
def test_without_a_loop(trace):
    assert trace("flaky.mcap").replay_sync("aggregation").equal
"""


def _python(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )


def test_15_the_pytest_fixture_works_with_pytest_alone(tmp_path: Path) -> None:
    (tmp_path / "traces").symlink_to(TRACES)
    (tmp_path / "test_field.py").write_text(USERS_TEST)
    words = ("-m", "pytest", "-p", "no:asyncio", "-p", "no:anyio", "-p", "heliograph.testing.plugin", "-q", "-p",
             "no:cacheprovider")  # fmt: skip
    ran = _python(*words, cwd=tmp_path)
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout
    assert "the published messages differ from the recorded ones" in ran.stdout


def test_15_python_m_heliograph_is_the_command(tmp_path: Path) -> None:
    ran = _python("-m", "heliograph", "--version", cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"heliograph {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed_so_far", "completed"), [("heliograph mod", ["models"]), ("heliograph get j", ["jobs"]),
                                    ("heliograph run --sp", ["--split"])],
)  # fmt: skip
def test_15_a_shell_completes_commands_kinds_and_options(
    typed_so_far: str, completed: list[str], typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_HELIOGRAPH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed_so_far)
    monkeypatch.setenv("COMP_CWORD", str(typed_so_far.count(" ")))
    assert typed().out.split() == completed


def test_a_kind_is_completed_from_its_first_letters() -> None:
    context = typer.Context(typer.main.get_command(app))
    assert complete_target(context, "mo") == ["models"]
    assert {"jobs", "services", "models", "labels"} < set(complete_target(context, ""))
    assert complete_target(context, "x") == []


@pytest.mark.parametrize(
    ("trace", "words", "why"),
    [
        ("federated.mcap", [], "without --topics only observations of edges and devices are replayed: telemetry, hard "
                               "samples and labels; its "),
        ("federated.mcap", ["--topics", "nope/#"], "no topic matches --topics nope/#; its "),
        ("empty.mcap", [], "the trace has no messages"),
    ],
)  # fmt: skip
def test_15_a_replay_of_nothing_says_why(trace: str, words: list[str], why: str, typed: Any, tmp_path: Path) -> None:
    place = TRACES / trace
    if not place.exists():
        place = tmp_path / trace
        with TraceWriter(place, root="heliograph", metadata={}):
            pass
    ran = typed("trace", "replay", place, "--to", "nats://127.0.0.1:1", *words)
    assert ran.code == 1
    assert ran.error.startswith(f"{place}: nothing to replay: {why}")
    assert ("event/" in ran.error) == (trace != "empty.mcap")
