"""A command's processes end with it, however it ends, and its temporary directory goes with them."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.core.child_process import RUN
from heliograph.core.orphans import members
from tests.patience import HANGS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and PR_SET_PDEATHSIG")

SCRIPT = """
import subprocess, sys, threading
child = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)"]
subprocess.Popen(child, start_new_session=True)
open(sys.argv[0] + ".runs", "w").close()
threading.Event().wait()
"""
"""A training script that has started a process of its own, which leaves the script's session and ignores SIGTERM."""

SCOPE = """
import os, signal, subprocess, sys
from pathlib import Path
from heliograph.local.run_scope import ending_together
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
with ending_together(Path(sys.argv[1]), grace=0.3):
    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    print("started", flush=True)
    if sys.argv[2] != "returns":
        os.kill(os.getpid(), int(sys.argv[2]))
"""


def _environment(directory: Path) -> dict[str, str]:
    """Return an environment that marks every process below."""
    return os.environ | {"TMPDIR": str(directory), "XDG_STATE_HOME": str(directory), "TERM": "dumb"}


def _wait_until(happened: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < HANGS
        time.sleep(0.05)


def test_closing_the_terminal_during_a_run_ends_everything(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    terminal, command = pty.openpty()

    def in_terminal() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where nohup has started the tests
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "heliograph.cli.main", "run", "train.py", "--edges", "1", "--plain"],
        stdin=command, stdout=command, stderr=command, cwd=tmp_path, env=_environment(scratch), preexec_fn=in_terminal,
    )  # fmt: skip
    os.close(command)
    _wait_until((tmp_path / "train.py.runs").exists)
    mark = f"TMPDIR={scratch}"
    # the command, the process that outlives it, two brokers, coordinator, two agents, worker, and its child
    assert len(members(mark)) >= 9
    os.close(terminal)
    _wait_until(lambda: not [pid for pid in members(mark) if pid != process.pid])
    process.wait()
    assert [path.name for path in scratch.iterdir()] == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP, "returns"])
def test_a_process_left_behind_is_killed_and_the_directory_goes(tmp_path: Path, end: signal.Signals | str) -> None:
    directory = tmp_path / "scratch"
    (directory / "state").mkdir(parents=True)
    how = end if isinstance(end, str) else str(end.value)
    environment = _environment(tmp_path)
    # the output ends only once all processes that have it are gone
    ended = subprocess.run(
        [sys.executable, "-c", SCOPE, str(directory), how], env=environment, capture_output=True, timeout=HANGS,
        check=False,
    )  # fmt: skip
    assert ended.stdout == b"started\n"
    assert ended.returncode == (0 if isinstance(end, str) else -end.value)
    _wait_until(lambda: not members(f"TMPDIR={tmp_path}"))  # the process that ended it
    assert not directory.exists()


def test_a_process_outside_the_run_lives_on(tmp_path: Path) -> None:
    outside = subprocess.Popen(["sleep", "3600"], env=os.environ | {RUN: "another"})
    try:
        subprocess.run([sys.executable, "-c", SCOPE, str(tmp_path / "scratch"), "returns"], timeout=HANGS, check=True)
        assert outside.poll() is None
        assert members(f"{RUN}=another") == [outside.pid]
    finally:
        outside.kill()
        outside.wait()
