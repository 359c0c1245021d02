"""The output of a chaos run, and the directory that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.resources import LoopState
from heliograph.core.world import World
from heliograph.simulations.faults import __main__ as command
from heliograph.simulations.faults.chaos import Outcome
from heliograph.simulations.faults.driver import Timeline
from heliograph.simulations.faults.evidence import Evidence
from heliograph.simulations.faults.fault_plan import Fault
from heliograph.simulations.faults.invariants import Violation
from heliograph.simulations.faults.learning_invariants import LearningEvidence, LoopEvidence

Ended = Callable[..., tuple[int, str, Path]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ended:
    """Return ``ended(*violations)``, which gives exit code, output and directory of a run with these violations."""

    def run(*violations: str) -> tuple[int, str, Path]:
        directory = tmp_path / "run"
        directory.mkdir()

        async def fake(faults: Sequence[Fault], *_: Any) -> Outcome:
            timeline = Timeline(World(), lines=["   1.00 s  black-hole edge-1"])
            found = [Violation("any", text) for text in violations]
            loop = LoopEvidence("cloud", "u", True, LoopState(), set(), 0, {}, [])
            learning = LearningEvidence("stream", "Running", 20, {}, [loop])
            return Outcome(faults, timeline, Evidence(), learning, found, {"edge-1": "nats-server"})

        monkeypatch.setattr(command.chaos, "run", fake)
        monkeypatch.setattr(command.tempfile, "mkdtemp", lambda prefix: str(directory))
        monkeypatch.setattr(sys, "argv", ["faults", "--seed", "7", "--minutes", "0.5"])
        return command.main(), capsys.readouterr().out, directory

    return run


def test_a_failure_names_the_command_that_repeats_it(ended: Ended) -> None:
    code, output, directory = ended("edge-1: 1 event is lost")
    assert code == 1
    assert "make chaos SEED=7 MINUTES=0.5" in output
    assert "edge-1: 1 event is lost" in output
    assert "1.00 s  black-hole edge-1" in output
    assert str(directory) in output and directory.exists()


def test_a_sound_run_leaves_nothing(ended: Ended) -> None:
    code, output, directory = ended()
    assert code == 0
    assert "every invariant holds" in output and "faults:" in output and "learning: 0 samples" in output
    assert not directory.exists()
