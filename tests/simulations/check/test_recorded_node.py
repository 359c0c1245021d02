"""Workers' ends as a trace has them: a replay gives the process the same end."""

from __future__ import annotations

import pytest

from heliograph.core.child_process import described_end
from heliograph.simulations.check.recorded_node import Crash, Left, WorkerState


@pytest.mark.parametrize("code", [0, 3, -9, -11, -15, -40, -200])
def test_the_end_of_a_process_is_read_as_its_agent_described_it(code: int) -> None:
    for words in ("ValueError: x: y", "no output", "two\nlines"):
        assert WorkerState(1.0, "backing-off", f"{described_end(code)}: {words}").crash == Crash(code, words)
    assert WorkerState(1.0, "failed", "exit code -9: as 0.1 wrote it").crash == Crash(-9, "as 0.1 wrote it")
    assert WorkerState(1.0, "failed", "evicted").crash == Crash(1, "evicted")


def test_a_loop_that_was_left_is_read_with_the_end_of_the_code_after_it() -> None:
    left = "the script left its loop in round 3"
    assert WorkerState(1.0, "finished", left).left == Left(3, Crash(0, "no output"))
    failed = f"{left}; the code after it ended with signal 11 (segmentation fault): saved"
    assert WorkerState(1.0, "finished", failed).left == Left(3, Crash(-11, "saved"))
    assert WorkerState(1.0, "finished", "").left is None
    assert WorkerState(1.0, "running", left).left is None
