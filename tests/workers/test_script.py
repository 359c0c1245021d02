"""The user's script in a worker: its environment, its exit, and the reports of its errors."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import Assignment, ScriptSpec, TrainTask
from heliograph.core.errors import Refused
from heliograph.workers import infer, runtime, train
from heliograph.workers.runtime import Runtime
from heliograph.workers.script import run_script, run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of
from tests.patience import HANGS


class Recorded:
    """A host without a bus."""

    def __init__(self, script: ScriptSpec | None) -> None:
        task = TrainTask(worker="w", job="job", job_uid="u", round=1, script=script)
        self._assignment = Assignment(task=task, edge="edge-1")
        self.code = (Path("/"),)
        self.failures: list[str] = []
        self.finished = threading.Event()

    def begin(self) -> Assignment:
        return self._assignment

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        return end_of(error)

    def failed(self, line: str, final: bool) -> None:
        self.failures.append(line)

    def finish(self) -> None:
        self.finished.set()


@pytest.fixture(autouse=True)
def own_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the path and arguments that a script changes."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    monkeypatch.setattr(sys, "argv", list(sys.argv))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Return ``run(text)``, which gives a script's exit code and the reported failures."""

    def run_text(text: str, directory: Path | None = None) -> tuple[int, list[str]]:
        file = tmp_path / "script.py"
        file.write_text(text)
        recorded = Recorded(ScriptSpec(boot_file=str(file), directory=str(directory) if directory else ""))
        return run_script(recorded), recorded.failures

    return run_text


def test_it_runs_as_the_main_module_with_its_own_arguments_and_neighbours(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "neighbour_of_the_script.py").write_text("NAME = 'neighbour'")
    text = "import sys, neighbour_of_the_script as n; print(__name__, sys.argv, n.NAME)"
    assert run(text) == (0, [])
    assert capsys.readouterr().out == f"__main__ ['{tmp_path / 'script.py'}'] neighbour\n"


def test_its_directory_is_where_it_imports_from(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module_of_the_directory.py").write_text("NAME = 'there'")
    assert run("import module_of_the_directory as m; print(m.NAME)", tmp_path / "package") == (0, [])
    assert capsys.readouterr().out == "there\n"


def test_code_outside_the_roots_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "script.py").write_text("print('ran')")
    (tmp_path / "planted.py").write_text("print('ran')")
    (tmp_path / "code" / "link.py").symlink_to(tmp_path / "planted.py")
    for named in (
        ScriptSpec(boot_file=str(tmp_path / "planted.py")),
        ScriptSpec(boot_file=str(tmp_path / "code" / "link.py")),
        ScriptSpec(boot_file=str(tmp_path / "code" / "script.py"), directory=str(tmp_path)),
        ScriptSpec(boot_file=str(tmp_path / "code" / "script.py"), directory=str(tmp_path / "code" / "..")),
    ):
        recorded = Recorded(named)
        recorded.code = (tmp_path / "code",)
        assert run_script(recorded) == 1
        (failure,) = recorded.failures
        assert "expected paths below" in failure and str(tmp_path / "code") in failure
    assert "ran" not in capsys.readouterr().out.splitlines()


def test_a_zip_file_is_neither_script_nor_directory_nor_module(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "weights", "w") as archive:
        archive.writestr("module_of_a_zip.py", "print('ran')")
        archive.writestr("__main__.py", "print('ran')")
    text = f"import sys; sys.path.insert(0, {str(tmp_path / 'weights')!r}); import module_of_a_zip"
    code, (failure,) = run(text, tmp_path / "weights")
    assert (code, failure) == (1, "ModuleNotFoundError: No module named 'module_of_a_zip'")
    recorded = Recorded(ScriptSpec(boot_file=str(tmp_path / "weights")))
    assert run_script(recorded) == 1
    assert "ran" not in capsys.readouterr().out


def test_nothing_is_imported_from_the_workers_own_directory(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path / "worker"
    working.mkdir()
    (working / "module_of_the_worker.py").write_text("")
    monkeypatch.chdir(working)
    for entry in ("", str(working), str(working / ".")):
        sys.path.insert(0, entry)
    code, (failure,) = run("import module_of_the_worker")
    assert (code, failure) == (1, "ModuleNotFoundError: No module named 'module_of_the_worker'")


@pytest.mark.parametrize(("leaving", "code"), [("", 0), ("None", 0), ("0", 0), ("7", 7), ("True", 1)])
def test_it_may_leave_with_a_number(run: Any, leaving: str, code: int) -> None:
    assert run(f"import sys; sys.exit({leaving})") == (code, [])


def test_an_exit_value_that_is_no_number_is_reported(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import sys; sys.exit('no data in /data')") == (1, ["no data in /data"])
    assert "no data in /data" in capsys.readouterr().out


def test_its_error_is_shown_with_the_users_own_frames_only(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("def load():\n    raise KeyError('x')\nload()\n") == (1, ["KeyError: 'x'"])
    shown = capsys.readouterr().err
    assert shown.count("File ") == 2
    assert "script.py" in shown
    assert "runpy" not in shown


def test_a_syntax_error_is_shown_too(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, (reported,) = run("def :")
    assert (code, reported.split(":")[0]) == (1, "SyntaxError")
    assert "def :" in capsys.readouterr().err


def test_an_error_of_ours_is_one_line(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = "from heliograph.core.errors import HeliographError\nraise HeliographError('no such rule')"
    assert run(text) == (1, ["error: no such rule"])
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("error: no such rule\n", "")


def test_a_task_without_a_script_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script(Recorded(None)) == 1
    assert capsys.readouterr().out == "error: the task names no script\n"


def test_the_loop_ends_when_the_script_has_ended(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("import sys, threading; assert threading.current_thread() is threading.main_thread(); sys.exit(5)")
    recorded = Recorded(ScriptSpec(boot_file=str(file)))
    beside: list[bool] = []

    async def serve(ready: Callable[[Recorded], None]) -> None:
        beside.append(threading.current_thread() is not threading.main_thread())
        ready(recorded)
        await asyncio.get_running_loop().run_in_executor(None, recorded.finished.wait)

    assert run_with_host(serve) == 5
    assert beside == [True]


@pytest.mark.parametrize("program", [train, infer])
def test_a_refused_subscription_ends_a_worker_that_waits_for_its_first_assignment(
    program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refused(runtime: Runtime, handle: object, kind: type) -> None:
        raise Refused("forbidden", topic="assignment/w", expected="permission to subscribe")

    monkeypatch.setattr(Runtime, "assignments", refused)
    (tmp_path / "secret").write_text("")
    monkeypatch.setenv("HELIOGRAPH_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("HELIOGRAPH_CODE", "[]")
    for name in ("EDGE", "WORKER", "DIRECTORY", "MODELS"):
        monkeypatch.setenv(f"HELIOGRAPH_{name}", "w")
    monkeypatch.setenv("HELIOGRAPH_BUS", "memory://refusing")
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(runtime.run(lambda: program.serve(lambda host: None))))
    thread.daemon = True
    thread.start()
    thread.join(HANGS)
    assert codes == [1]
    assert capsys.readouterr().out == "error: assignment/w: expected permission to subscribe\n"


GONE = """
from heliograph.core.errors import HeliographError
from heliograph.workers.script import run_with_host
async def serve(ready):
    raise {error}
run_with_host(serve)
"""


def test_where_the_bus_is_gone_for_good_the_script_does_not_wait_for_ever() -> None:
    code = GONE.format(error='HeliographError("this login may not subscribe")')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout) == (1, "error: this login may not subscribe\n")


LINGERS = """
import asyncio, sys
from heliograph.bus.contract.payloads import ScriptSpec
from heliograph.workers import script
from tests.workers.test_script import Recorded
script.LINGERING = 0.1
async def serve(ready):
    ready(Recorded(ScriptSpec(boot_file=sys.argv[1])))
    while True:
        await asyncio.sleep(0.0001)
sys.exit(script.run_with_host(serve))
"""


def test_a_worker_whose_bus_still_delivers_after_its_time_ends_as_its_script_did(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        "import atexit, builtins, os, sys; atexit.register(print, 'its own end')\n"
        "class TornDown:\n    def __del__(self, write=os.write): write(1, b'the interpreter as well')\n"
        "builtins.last = TornDown(); sys.exit(5)"
    )
    done = subprocess.run([sys.executable, "-c", LINGERS, str(file)], capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout, done.stderr) == (5, "its own end\n", "")


def test_so_does_one_whose_script_has_closed_its_output(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("import sys; sys.stdout.close(); sys.exit(5)")
    done = subprocess.run([sys.executable, "-c", LINGERS, str(file)], capture_output=True, text=True, timeout=HANGS)
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")


@pytest.mark.parametrize("error", ["HeliographError('expected')", "KeyError('a defect')"])
def test_nor_where_nobody_reads_its_output_any_more(error: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as where its agent was killed
    try:
        done = subprocess.run([sys.executable, "-c", GONE.format(error=error)], stdout=writing, timeout=HANGS)
    finally:
        os.close(writing)
    assert done.returncode == 1
