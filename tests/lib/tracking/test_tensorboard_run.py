"""Event files of TensorBoard: what is there is read again, and a process that ends anywhere tears at most a record."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heliograph.core.errors import HeliographError
from heliograph.tracking.event_files import scalars_in
from heliograph.tracking.run_writer import JobFacts
from heliograph.tracking.tensorboard_run import TensorBoardRun

JOB = JobFacts("digits", "0123456789abcdef", "model")
ROUND = {"train/loss": 0.5, "edge/a/counted": 1.0, "round/counted": 2.0}


@pytest.fixture(autouse=True)
def _needs_tensorboardx(framework: Callable[[str], ModuleType]) -> None:
    framework("tensorboardX")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Return ``run()``, which makes a writer to one directory."""
    return lambda: TensorBoardRun(tmp_path / "runs")


def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "digits-01234567"


def test_another_process_finds_what_is_there(run: Any, tmp_path: Path) -> None:
    first = run()
    assert first.open(JOB).rounds == set()
    first.write(1, 10.0, ROUND)
    first.write(2, 11.0, ROUND | {"edge/a/counted": 2.0})
    first.write(1, 11.5, {"test/accuracy": 0.25})
    first.close()
    for number in range(3, 6):  # each in the same second as the one before
        other = run()
        found = other.open(JOB)
        assert (found.rounds, found.evaluated) == (set(range(1, number)), {1})
        assert found.sums["edge/a/counted"] == number - 1
        other.write(number, 12.0, ROUND | {"edge/a/counted": float(number)})
        other.close()
    assert [step for step, _ in scalars_in(folder(tmp_path))] == [1, 2, 1, 3, 4, 5]
    assert len([*folder(tmp_path).glob("events.*")]) == 4


def test_what_was_written_outlives_a_killed_process(run: Any, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from heliograph.tracking.run_writer import JobFacts
from heliograph.tracking.tensorboard_run import TensorBoardRun
run = TensorBoardRun(Path({str(tmp_path / "runs")!r}))
run.open(JobFacts("digits", {JOB.series!r}, "model"))
run.write(1, 1.0, {ROUND!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert run().open(JOB).rounds == {1}


@pytest.mark.parametrize("left", [1, 11, 12, 30, -1, -4])
def test_a_torn_record_is_no_record(left: int, run: Any, tmp_path: Path) -> None:
    first = run()
    first.open(JOB)
    first.write(1, 1.0, ROUND)
    (path,) = folder(tmp_path).glob("events.*")
    whole = path.stat().st_size
    first.write(2, 1.0, ROUND)
    first.close()
    data = path.read_bytes()
    path.write_bytes(data[: whole + left] if left > 0 else data[:left])
    second = run()
    assert second.open(JOB).rounds == {1}
    second.write(2, 1.0, ROUND)
    assert [step for step, _ in scalars_in(folder(tmp_path))] == [1, 2]


def test_a_damaged_file_is_read_up_to_its_damage(run: Any, tmp_path: Path) -> None:
    first = run()
    first.open(JOB)
    for step in (1, 2, 3):
        first.write(step, 1.0, ROUND)
    first.close()
    (path,) = folder(tmp_path).glob("events.*")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"round/counted", 0, len(data) - 60)
    data[place] ^= 1
    path.write_bytes(data)
    assert run().open(JOB).rounds == {1}
    path.write_bytes(b"\xff" * 200)
    assert run().open(JOB).rounds == set()


def test_two_processes_do_not_write_one_job(run: Any, tmp_path: Path) -> None:
    first = run()
    first.open(JOB)
    first.open(JOB)  # the same writer may open it again
    with pytest.raises(HeliographError, match=r"another process tracks this job in .*digits-01234567"):
        run().open(JOB)
    run().open(JobFacts("digits", "another", "model"))
    first.close()
    run().open(JOB)


def test_a_directory_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HeliographError, match=r"file cannot be written: (File exists|Not a directory)"):
        TensorBoardRun(tmp_path / "file").require()


def test_a_missing_package_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HeliographError, match=r"pip install 'heliograph\[tensorboard\]'"):
        TensorBoardRun(tmp_path).require()


def test_tensorflow_reads_the_files(run: Any, tmp_path: Path, framework: Callable[[str], ModuleType]) -> None:
    tensorflow: Any = framework("tensorflow")
    first = run()
    first.open(JOB)
    first.write(7, 1234.5, ROUND)
    first.close()
    (path,) = folder(tmp_path).glob("events.*")
    version, event = tensorflow.compat.v1.train.summary_iterator(str(path))
    assert version.file_version == "brain.Event:2"
    assert (event.step, event.wall_time) == (7, 1234.5)
    assert {each.tag: each.simple_value for each in event.summary.value} == ROUND
