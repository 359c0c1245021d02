"""Workers as processes: their output, their end, their limits, and their files."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from heliograph.bus.contract.payloads import Offer
from heliograph.core import orphans
from heliograph.core.child_process import described_end
from heliograph.core.world import Process, World
from heliograph.edge_agent.confinement.confiner import Confiner, Limits
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest
from heliograph.edge_agent.outputs import Outputs
from heliograph.edge_agent.process_launcher import MAX_LINE, MODULES, ProcessLauncher
from tests.patience import HANGS

WORLD = World()
ROOT = Path(__file__).parents[2]


def running(script: str) -> World:
    """Return a world in which a worker's process runs this script."""

    async def spawn(
        argv: Sequence[str], *, env: Mapping[str, str], cwd: str, before: Callable[[], None] | None = None,
        inherited: Sequence[int] = (),
    ) -> Process:  # fmt: skip
        if "-m" not in argv:  # the guard
            return await WORLD.spawn(argv, env=env, cwd=cwd, before=before, inherited=inherited)
        options = argv[1 : argv.index("-m")]
        command = [sys.executable, *options, "-c", script]
        return await WORLD.spawn(command, env=env, cwd=cwd, before=before, inherited=inherited)

    return replace(WORLD, spawn=spawn)


def request(role: str = "train", **environment: str) -> LaunchRequest:
    return LaunchRequest("job-worker", role, bytes(32), environment, Path("/models"))


async def _lines(script: str, directory: Path, limits: Limits | None = None) -> tuple[list[str], str]:
    launcher = ProcessLauncher(running(script), directory, Confiner(limits=limits))
    worker = await launcher.launch(request(HELIOGRAPH_EDGE="edge-1"))
    assert worker.lines is not None
    found = [line async for line in worker.lines]
    return found, await worker.wait()


async def test_lines_of_both_outputs_and_the_exit_code_are_returned(tmp_path: Path) -> None:
    script = "import sys; print('one'); print('two', file=sys.stderr); print('three', end=''); sys.exit(3)"
    assert await _lines(script, tmp_path) == (["one", "two", "three"], "exit code 3")


async def test_a_worker_gets_its_environment_and_directory(tmp_path: Path) -> None:
    script = "import os; print(os.getcwd(), *(os.environ['HELIOGRAPH_' + n] for n in ('EDGE', 'WORKER', 'MODELS')))"
    directory = tmp_path / "job-worker"
    assert (await _lines(script, tmp_path))[0] == [f"{directory} edge-1 job-worker /models"]


async def test_a_worker_reads_its_secret_once_and_its_environment_never_had_it(tmp_path: Path) -> None:
    script = """
import subprocess, sys
from heliograph.workers.runtime import WorkerEnvironment
secret = WorkerEnvironment.from_environment().secret.hex()
environments = [open("/proc/self/environ").read()] + [subprocess.check_output(["env"], text=True)]
child = subprocess.run([sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"], close_fds=False)
print(secret, *(secret in each for each in environments))
"""
    environment = {"HELIOGRAPH_BUS": "memory://node", "HELIOGRAPH_EDGE": "edge-1"}
    signed = replace(request(**environment), secret=b"k" * 32)
    worker = await ProcessLauncher(running(script), tmp_path).launch(signed)
    assert worker.lines is not None
    lines = [line async for line in worker.lines]
    # the child lists 0 to 2 and the directory itself: the pipe is closed
    assert lines == ["['0', '1', '2', '3']", f"{'6b' * 32} False False"]


async def test_files_in_a_workers_own_directory_are_no_modules(tmp_path: Path) -> None:
    (tmp_path / "job-worker").mkdir()
    (tmp_path / "job-worker" / "planted.py").write_text("print('planted')")
    script = "import importlib.util; print(importlib.util.find_spec('planted'))"
    assert (await _lines(script, tmp_path))[0] == ["None"]


async def test_the_agents_own_settings_are_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIOGRAPH_CLOUD", "nats://secret")
    script = "import os; print('HELIOGRAPH_CLOUD' in os.environ)"
    assert (await _lines(script, tmp_path))[0] == ["False"]


async def test_a_line_that_is_too_long_is_cut(tmp_path: Path) -> None:
    lines, _ = await _lines(f"print('x' * {MAX_LINE + 10}); print('y' * (2 << 20)); print('after')", tmp_path)
    assert lines[0] == "x" * MAX_LINE
    assert "(a line too long to show)" in lines
    assert lines[-1] == "after"


async def test_bytes_that_are_no_text_are_shown_as_replacement_characters(tmp_path: Path) -> None:
    script = "import sys; sys.stdout.buffer.write(b'\\xff\\r\\n')"
    assert (await _lines(script, tmp_path))[0] == ["\N{REPLACEMENT CHARACTER}"]


async def test_a_worker_has_the_configured_limits(tmp_path: Path) -> None:
    script = "import os, resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20, os.nice(0))"
    lines, _ = await _lines(script, tmp_path, Limits(memory_mb=512, nice=3))
    assert lines == [f"512 {os.nice(0) + 3}"]


async def test_terminate_and_kill(tmp_path: Path) -> None:
    obeys = await ProcessLauncher(running("print('up', flush=True); import time; time.sleep(600)"), tmp_path).launch(
        request()
    )
    ignores = await ProcessLauncher(
        running("import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"),
        tmp_path,
    ).launch(request())
    for worker, how in ((obeys, described_end(-15)), (ignores, described_end(-9))):
        assert worker.lines is not None
        assert await anext(worker.lines) == "up"
        await worker.terminate()
        if worker is ignores:
            await worker.kill()
        assert await worker.wait() == how
        await worker.terminate()  # has no effect after the end
        await worker.kill()


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-11, "signal 11 (segmentation fault)"), (-6, "signal 6 (aborted)"),
     (-9, "signal 9 (killed, as by a machine that has run out of memory)"), (-40, "signal 40"), (-200, "signal 200")],
)  # fmt: skip
def test_an_end_is_described_in_words(code: int, words: str) -> None:
    assert described_end(code).startswith(words)


async def test_as_a_process_that_crashes_shows(tmp_path: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert (await _lines(script, tmp_path))[1] == "signal 11 (segmentation fault)"


_LEAVES_BEHIND = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=OWN_SESSION)
print(child.pid, flush=True)
os._exit(3)
"""


@pytest.mark.parametrize("own_session", [False, True])
def test_no_child_outlives_its_worker(tmp_path: Path, own_session: bool) -> None:
    async def main() -> tuple[list[str], str]:
        async with asyncio.timeout(HANGS):
            return await _lines(_LEAVES_BEHIND.replace("OWN_SESSION", str(own_session)), tmp_path)

    (pid,), how = uvloop.run(main())  # the agents' loop; asyncio's waits for the pipe until Python 3.12.4
    assert how == "exit code 3"
    _wait_gone(int(pid))


_STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as scripts do that save a checkpoint
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
child.wait()
"""
_AGENT = """
import asyncio, sys
from pathlib import Path
from tests.edge_agent.test_process_launcher import running, request, ProcessLauncher
async def main():
    worker = await ProcessLauncher(running(sys.argv[2]), Path(sys.argv[1])).launch(request())
    async for line in worker.lines:
        print(line, flush=True)
asyncio.run(main())
"""


def test_neither_worker_nor_child_outlives_an_agent_that_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _AGENT, str(tmp_path), _STUBBORN]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as agent:
        assert agent.stdout is not None
        pids = [int(word) for word in agent.stdout.readline().split()]
        agent.kill()
    assert len(pids) == 2
    for pid in pids:
        _wait_gone(pid)


def test_a_process_of_another_launch_is_left_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
    started = [
        subprocess.Popen(command, env=os.environ | {orphans.VARIABLE: launch}, stdout=subprocess.PIPE)
        for launch in ("one/1", "one/10", "two/1", "two/2", "two")
    ]
    try:
        for each in started:  # it has its own environment by then
            assert each.stdout is not None
            each.stdout.readline()
            each.stdout.close()
        assert orphans.end_launched("one/1") == 1
        assert orphans.end_launched("two/") == 2
        assert [started[number].wait() for number in (0, 2, 3)] == [-signal.SIGKILL] * 3
        assert [started[number].poll() for number in (1, 4)] == [None, None]
    finally:
        for each in started:
            each.kill()
            each.wait()


async def test_a_worker_with_a_script_runs_where_its_outputs_go_and_its_lines_are_kept(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "config.txt").write_text("0.5")
    script = "import os; print(os.getcwd(), open('config.txt').read()); open('result.txt', 'w').write('done')"
    launcher = ProcessLauncher(running(script), tmp_path / "workers", outputs=Outputs(tmp_path / "outputs"))
    for start in (1, 2):
        worker = await launcher.launch(replace(request(), job="job", working_directory=tmp_path / "code"))
        assert worker.lines is not None
        place = tmp_path / "outputs" / "job" / "job-worker"
        assert [line async for line in worker.lines] == [f"{place} 0.5"]
        assert await worker.wait() == "exit code 0"
        assert [each.name for each in place.iterdir()] == ["result.txt"]
        log = (tmp_path / "outputs" / "job" / "job-worker.log").read_text().splitlines()
        assert (len(log), log[0], log[-1]) == (2 * start - 1, f"{place} 0.5", f"{place} 0.5")
    with pytest.raises(LaunchFailed, match="no names of directories"):
        await launcher.launch(replace(request(), job="..", working_directory=tmp_path / "code"))


async def test_relative_entries_of_the_python_path_mean_the_directory_of_whoever_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "", os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "module_of_the_user.py").write_text("")
    script = "import module_of_the_user as m, os; print(m.__file__, os.environ['PYTHONPATH'].split(os.pathsep)[1])"
    lines, _ = await _lines(script, tmp_path / "workers")
    assert lines == [f"{tmp_path / 'lib' / 'module_of_the_user.py'} {tmp_path}"]


async def test_of_a_progress_bar_the_last_state_is_shown(tmp_path: Path) -> None:
    script = "print(' 1%', end=chr(13)); print('99%', end=chr(13)); print('100%', end=chr(13) + chr(10))"
    assert (await _lines(script, tmp_path))[0] == ["100%"]


def _wait_gone(pid: int) -> None:
    """Wait until a process that may be no child of this one has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], HANGS)[0], f"process {pid} still runs"
    finally:
        os.close(fd)


async def test_an_unknown_role_is_not_launched(tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="role dream"):
        await ProcessLauncher(WORLD, tmp_path).launch(request("dream"))


async def test_a_launch_fails_where_no_directory_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("a file")
    launcher = ProcessLauncher(WORLD, tmp_path / "workers")
    with pytest.raises(LaunchFailed, match="workers"):
        await launcher.launch(request())
    with pytest.raises(LaunchFailed, match="workers"):
        await launcher.offers()


def test_every_role_has_a_module_that_is_there() -> None:
    from importlib.util import find_spec

    assert all(find_spec(module) for module in MODULES.values())


async def test_the_workers_offers(tmp_path: Path) -> None:
    offer = Offer.model_validate_json(await ProcessLauncher(WORLD, tmp_path / "workers").offers())
    assert "FedAvg" in offer.algorithms


async def test_staged_weights_outlive_their_worker_until_they_are_uploaded(tmp_path: Path) -> None:
    launcher = ProcessLauncher(WORLD, tmp_path)
    assert await launcher.staged("job-worker", "d" * 64) is None
    script = "import pathlib; d = pathlib.Path('staged'); d.mkdir(); (d / ('d' * 64)).write_text('weights')"
    await _lines(script, tmp_path)
    file = await launcher.staged("job-worker", "d" * 64)
    assert file is not None
    assert file.read_text() == "weights"
    await launcher.discard("job-worker", "d" * 64)
    await launcher.discard("job-worker", "d" * 64)
    assert await launcher.staged("job-worker", "d" * 64) is None


def test_fetched_files_of_unwanted_workers_go_and_staged_files_stay(tmp_path: Path) -> None:
    launcher = ProcessLauncher(WORLD, tmp_path)
    for worker in ("wanted", "unwanted"):
        for folder in ("updates", "staged"):
            (tmp_path / worker / folder).mkdir(parents=True)
            (tmp_path / worker / folder / "file").touch()
    launcher.sweep({"wanted"})
    left = sorted(str(each.parent.relative_to(tmp_path)) for each in tmp_path.glob("*/*/file"))
    assert left == ["unwanted/staged", "wanted/staged", "wanted/updates"]


def test_a_worker_sees_the_paths_of_its_agent(tmp_path: Path) -> None:
    assert ProcessLauncher(WORLD, tmp_path).path_for("job-worker", Path("/data/a.npz")) == "/data/a.npz"


