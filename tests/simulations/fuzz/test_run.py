"""Runs: equal plans give equal messages in every process, and past failures stay fixed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heliograph.bus.traces.recorded import Recorded
from heliograph.simulations.fuzz import __main__ as command
from heliograph.simulations.fuzz import failure
from heliograph.simulations.fuzz.draw import draw
from heliograph.simulations.fuzz.plan import Edge, Fault, Job, Plan
from heliograph.simulations.fuzz.played_plan import play

PLANS = sorted((Path(__file__).parent / "plans").glob("*.json"))


@pytest.mark.parametrize("seed", range(1, 13))
def test_every_invariant_holds_for_a_seed(seed: int) -> None:
    outcome = play(draw(seed))
    assert [f"{each.invariant}: {each}" for each in outcome.violations] == []
    assert outcome.messages > 100 and outcome.rounds > 0


@pytest.mark.parametrize("file", PLANS, ids=lambda file: str(file.stem))
def test_a_past_failure_stays_fixed(file: Path) -> None:
    assert [str(each) for each in play(failure.read(file)).violations] == []


def test_a_plan_gives_the_same_messages_in_every_process() -> None:
    seed = "3"
    digests = {play(draw(seed)).digest}
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        argv = [sys.executable, "-m", "heliograph.simulations.fuzz", "--seed", seed]
        output = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
        digests.add(next(line.split()[1] for line in output.splitlines() if line.startswith("digest ")))
    assert len(digests) == 1
    assert play(draw("4")).digest not in digests


def test_a_recorder_does_not_change_the_run() -> None:
    seen: list[Recorded] = []
    plan = draw(2)
    assert play(plan, seen.append).digest == play(plan).digest
    assert any(each.topic.startswith("event/aggregation/") for each in seen)


NEVER = Plan(
    seed="never", edges=(Edge(name="edge-1"),), jobs=(Job(name="tiny-1", rounds=1),),
    faults=(Fault(kind="cut", target="edge-1", at=0.0, duration=1.0), Fault(kind="reset", target="edge-1", at=2.0)),
)  # fmt: skip


def test_an_unsettled_run_is_reported_shrunk_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("heliograph.simulations.virtual.network.Link.restore", lambda link: None)
    monkeypatch.setattr("heliograph.simulations.fuzz.played_plan.SETTLE", 20.0)
    monkeypatch.setattr(command, "draw", lambda seed: NEVER)
    assert command.main(["--seed", "never", "--out", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "a_run_settles: after 20 s it waits for: job tiny-1" in output
    assert "to 1 faults" in output and "--plan" in output
    small = failure.read(tmp_path / "seed-never.small.json")
    assert [each.kind for each in small.faults] == ["cut"]
    assert (tmp_path / "seed-never.small.txt").exists() and (tmp_path / "seed-never.small.mcap").exists()
    assert command.main(["--plan", str(tmp_path / "seed-never.small.json")]) == 1
    monkeypatch.undo()
    assert command.main(["--plan", str(tmp_path / "seed-never.small.json")]) == 0


def test_a_missing_file_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--plan", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
