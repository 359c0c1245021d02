"""Cgroups of workers. The kernel's part runs where this process alone has a delegated cgroup:
``systemd-run --pty -p Delegate=yes python -m pytest -n 0 …``, also with ``-p User=``."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from heliograph.core.world import World
from heliograph.edge_agent.confinement.cgroups import MOUNTED, Bounds, WorkerGroups, own_cgroup
from heliograph.edge_agent.confinement.confiner import Confiner, Limits
from heliograph.edge_agent.confinement.site_policy import CONFINED, OPEN
from heliograph.edge_agent.launcher import LaunchRequest, RunningWorker
from heliograph.edge_agent.process_launcher import ProcessLauncher
from tests.edge_agent.test_process_launcher import running
from tests.patience import HANGS


@pytest.mark.parametrize(("text", "expected"), [
    ("0::/system.slice/heliograph.service\n", MOUNTED / "system.slice/heliograph.service"),
    ("0::/\n", MOUNTED),
    ("9:pids:/\n0::/\n", None),
    ("9:pids:/a\n", None),
    ("", None),
])  # fmt: skip
def test_the_own_cgroup_is_known_where_version_2_has_all(text: str, expected: Path | None) -> None:
    assert own_cgroup(text) == expected


def test_bounds_are_written_as_the_kernel_reads_them() -> None:
    assert Bounds(256, 64, 150).files == {
        "memory.oom.group": "1", "memory.max": "268435456", "pids.max": "64", "cpu.max": "150000 100000",
    }  # fmt: skip
    assert Bounds(0, 0, 0).files.keys() == {"memory.oom.group"}


def test_a_bound_of_cpu_without_cgroups_is_said_to_be_none() -> None:
    bounded = replace(CONFINED, cpu_percent=50)
    assert "cpu-percent bounds no worker" in " ".join(Confiner(bounded).unenforced)
    assert "cpu-percent" not in " ".join(Confiner(bounded, groups=WorkerGroups(Path("/nowhere"))).unenforced)
    assert Confiner(replace(OPEN, cpu_percent=50)).unenforced == []


# the kernel's part


@pytest.fixture(scope="module")
def groups() -> WorkerGroups:
    found = WorkerGroups.of_this_process()
    if found is None:
        pytest.skip("not run: this process has no cgroup that is delegated to it alone")
    return found


@pytest.fixture
def place(groups: WorkerGroups) -> Path:
    """Return the directory of the delegated cgroup; this process has moved into a part of it."""
    own = own_cgroup(Path("/proc/self/cgroup").read_text())
    assert own is not None and own.name == "agent"
    return own.parent


@pytest.fixture
def broker() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    yield World()


def _request(directory: Path, port: int) -> LaunchRequest:
    code = directory / "code"
    code.mkdir(parents=True, exist_ok=True)
    bus = {"HELIOGRAPH_BUS": f"mqtt://worker:x@127.0.0.1:{port}", "HELIOGRAPH_EDGE": "edge-1"}
    return LaunchRequest("job-worker", "train", bytes(32), bus, directory, (code,), "job")


async def _launch(script: str, directory: Path, port: int, confiner: Confiner) -> RunningWorker:
    return await ProcessLauncher(running(script), directory / "workers", confiner).launch(_request(directory, port))


async def _ended(worker: RunningWorker) -> tuple[list[str], str]:
    assert worker.lines is not None
    async with asyncio.timeout(HANGS):
        return [line async for line in worker.lines], await worker.wait()


def _workers(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir() if each.name.startswith("worker-"))


async def test_a_worker_runs_in_a_cgroup_that_goes_with_it(
    groups: WorkerGroups, place: Path, tmp_path: Path, broker: int
) -> None:
    confiner = Confiner(replace(CONFINED, processes=64, cpu_percent=150), Limits(memory_mb=512), (), groups)
    script = """
import pathlib, subprocess, sys
print(open("/proc/self/cgroup").read().strip(), flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
input()
"""
    worker = await _launch(script, tmp_path, broker, confiner)
    [name] = _workers(place)
    bounds = {each: (place / name / each).read_text().strip() for each in ("memory.max", "pids.max", "cpu.max")}
    lines, ended = await _ended(worker)
    assert lines[0].endswith(f"/{name}") and ended == "exit code 1"  # nothing is given in
    assert bounds == {"memory.max": str(512 << 20), "pids.max": "64", "cpu.max": "150000 100000"}
    assert _workers(place) == []


async def test_the_memory_of_all_its_processes_is_bounded(
    groups: WorkerGroups, place: Path, tmp_path: Path, broker: int
) -> None:
    script = """
import os
for number in range(8):
    if os.fork() == 0:
        held = b"x" * (64 << 20)
        import time; time.sleep(3600)
import time; time.sleep(3600)
"""
    _, ended = await _ended(await _launch(script, tmp_path, broker, Confiner(CONFINED, Limits(256), (), groups)))
    assert ended == "needed more memory, with what it had started, than the 256 MB of a worker"
    assert _workers(place) == []


async def test_each_worker_has_a_bound_of_processes_of_its_own(
    groups: WorkerGroups, place: Path, tmp_path: Path, broker: int
) -> None:
    script = """
import os, time
count = 1
try:
    while True:
        if os.fork() == 0:
            time.sleep(3600)
        count += 1
except OSError:
    print(count, flush=True)
"""
    confiner = Confiner(replace(CONFINED, processes=32), None, (), groups)
    workers = [await _launch(script, tmp_path / name, broker, confiner) for name in ("first", "second")]
    assert [(await _ended(each))[0] for each in workers] == [["32"], ["32"]]
    assert _workers(place) == []


async def test_the_bound_of_cpu_holds(groups: WorkerGroups, place: Path, tmp_path: Path, broker: int) -> None:
    script = """
import time
before, until = time.process_time(), time.monotonic() + 1
while time.monotonic() < until: pass
print(time.process_time() - before)
"""
    confiner = Confiner(replace(CONFINED, cpu_percent=20), None, (), groups)
    lines, _ = await _ended(await _launch(script, tmp_path, broker, confiner))
    assert float(lines[0]) < 0.5
    assert _workers(place) == []


async def test_a_group_without_processes_is_removed(groups: WorkerGroups, place: Path, world: World) -> None:
    group = groups.make(Bounds(0, 8, 0))
    group.close()
    assert _workers(place) and group.why == ""
    await group.end(world)
    await group.end(world)
    assert _workers(place) == []
    assert os.getpid() in map(int, (place / "agent" / "cgroup.procs").read_text().split())


# last: the processes that a launcher keeps stay in the cgroup of this process


async def test_a_worker_whose_cgroup_cannot_be_made_is_not_started(tmp_path: Path) -> None:
    confiner = Confiner(CONFINED, None, (), WorkerGroups(tmp_path / "none"))
    launcher = ProcessLauncher(running("print(1)"), tmp_path / "workers", confiner)
    with pytest.raises(Exception, match="No such file"):
        await launcher.launch(_request(tmp_path, 1))
