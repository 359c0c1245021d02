"""Many edges on one machine: workers start as many at once as it has cores, and a client waits for the next leader."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.topics import REQUEST
from heliograph.client import AsyncClient
from heliograph.core.errors import NobodyAnswers, Refused
from heliograph.core.world import World
from heliograph.edge_agent import start_permits
from heliograph.edge_agent.launcher import LaunchRequest
from heliograph.edge_agent.process_launcher import ProcessLauncher
from heliograph.edge_agent.start_permits import StartPermits, missing_memory
from heliograph.local.cluster_commands import patience_for
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

CORES = 2
WORKER = """
import sys, time
from heliograph.core.child_process import give_up_permit, keep_permit
keep_permit()
print("starts", flush=True)
sys.stdout.flush()
{then}
"""
ANSWER = {"ok": True, "result": []}
REFUSED = {"ok": False, "error": {"code": "not-found", "expected": "a job", "got": "none"}}
MEMORY = "MemTotal: 8000000 kB\nMemFree: 10 kB\nMemAvailable: {free} kB\n"


def _free(directory: Path) -> int:
    """Return how many permits nobody holds."""
    free = 0
    for file in directory.iterdir():
        if file.name.isdigit():
            with file.open() as permit:
                try:
                    fcntl.flock(permit, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                free += 1
    return free


async def test_fifty_workers_of_fifty_agents_start_a_few_at_once(tmp_path: Path) -> None:
    agents = [StartPermits(tmp_path, World(sleep=lambda _: asyncio.sleep(0)), cores=CORES) for _ in range(50)]
    starting, most, started = 0, 0, 0

    async def start(agent: StartPermits) -> None:
        nonlocal starting, most, started
        permit = await agent.take()
        starting += 1
        most = max(most, starting)
        await asyncio.sleep(0.001)
        starting, started = starting - 1, started + 1
        os.close(permit)

    async with asyncio.timeout(HANGS):
        await asyncio.gather(*map(start, agents))
    assert (started, most) == (50, CORES)


@pytest.mark.parametrize(
    ("then", "ends"),
    [("give_up_permit(); print('loaded', flush=True); time.sleep(3600)", False), ("sys.exit(3)", True)],
    ids=["loaded", "failed"],
)
async def test_a_worker_that_has_loaded_or_failed_lets_the_next_start(tmp_path: Path, then: str, ends: bool) -> None:
    starts = tmp_path / "starts"
    world = World()

    async def spawn(argv: list[str], **options: object) -> object:
        return await world.spawn([*argv[:-2], "-c", WORKER.format(then=then)], **options)

    permits = StartPermits(starts, world, cores=CORES)
    launcher = ProcessLauncher(World(spawn=spawn), tmp_path, permits=permits)  # type: ignore[arg-type]
    worker = await launcher.launch(LaunchRequest("job-worker", "train", b"k" * 32, {}, Path("/models")))
    assert worker.lines is not None
    lines = aiter(worker.lines)
    assert await anext(lines) == "starts"
    if ends:
        assert [line async for line in lines] == []
    else:
        assert await anext(lines) == "loaded"
    first = await permits.take()
    second = await permits.take()
    assert (first != second, _free(starts)) == (True, 0)
    for permit in (first, second):
        os.close(permit)
    await worker.kill()
    await worker.wait()


def test_a_start_waits_for_memory_of_the_machine_and_of_its_container(tmp_path: Path) -> None:
    memory, container = tmp_path / "meminfo", tmp_path / "cgroup"
    assert missing_memory(memory, container) == 0  # unknown, as on another system
    memory.write_text(MEMORY.format(free=4_000_000))
    assert missing_memory(memory, container) == 0
    memory.write_text(MEMORY.format(free=100_000))
    assert missing_memory(memory, container) == (256 << 20) - 100_000 * 1024
    memory.write_text(MEMORY.format(free=4_000_000))
    container.mkdir()
    for name, text in (("max", "max"), ("current", "0"), ("stat", "anon 5\ninactive_file 0\nactive_file 0\n")):
        (container / f"memory.{name}").write_text(text)
    assert missing_memory(memory, container) == 0  # no limit
    (container / "memory.max").write_text(str(1 << 30))
    (container / "memory.current").write_text(str((1 << 30) - (10 << 20)))
    assert missing_memory(memory, container) == (64 << 20) - (10 << 20)
    (container / "memory.stat").write_text(f"inactive_file {30 << 20}\nactive_file {30 << 20}\n")
    assert missing_memory(memory, container) == 0  # a cache of files makes room


async def test_a_start_that_waits_for_memory_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, said = iter([5 << 20, 3 << 20, 0]), []
    monkeypatch.setattr(start_permits, "missing_memory", lambda: next(missing))
    permits = StartPermits(tmp_path, World(sleep=lambda _: asyncio.sleep(0), say=said.append), cores=CORES)
    os.close(await permits.take())
    assert said == ["warning: a worker waits for memory, 5 MB are missing"]
    assert next(missing, None) is None


@pytest.mark.parametrize(("edges", "cores", "factor"), [(3, 2, 1), (10, 2, 1), (50, 2, 5), (200, 2, 20), (200, 40, 1)])
def test_the_lease_lasts_longer_where_many_edges_share_a_core(edges: int, cores: int, factor: float) -> None:
    assert patience_for(edges, cores) == factor


@pytest.mark.parametrize("factor", ["0.5", "nan", "1000", "long"])
def test_a_patience_that_is_none_is_refused(typed: Callable[..., Any], factor: str) -> None:
    ran = typed("coordinator", "--nats", "nats://127.0.0.1:1", "--patience", factor)
    assert (ran.code, ran.error) == (
        2, f"invalid value for --patience: expected 1 to 100, got {factor}. Try 'heliograph coordinator --help'."
    )  # fmt: skip


@pytest.mark.parametrize("replicas", ["0", "2", "7", "all"])
def test_a_number_of_replicas_that_is_none_is_refused(typed: Callable[..., Any], replicas: str) -> None:
    ran = typed("coordinator", "--nats", "nats://127.0.0.1:1", "--replicas", replicas)
    assert (ran.code, ran.error) == (
        2, f"invalid value for --replicas: expected 1, 3 or 5, got {replicas}. Try 'heliograph coordinator --help'."
    )  # fmt: skip


async def test_a_client_that_follows_a_run_waits_for_the_next_leader(broker: Callable[..., Awaitable[Broker]]) -> None:
    server = await broker()
    async with connect(server.url("coordinator")) as leader:
        async with AsyncClient(server.url("operator")) as impatient:
            with pytest.raises(NobodyAnswers, match="is the coordinator running"):
                await impatient.jobs.list()

        async def lead() -> None:
            await leader.link.wait_up(HANGS)
            async with leader.subscribe(REQUEST.filter()) as requests:
                async for request in requests:
                    assert request.reply_to is not None
                    gets = request.topic.endswith("/get")
                    await leader.publish(request.reply_to, json.dumps(REFUSED if gets else ANSWER).encode())

        async with AsyncClient(server.url("operator"), leader_timeout=HANGS) as patient:
            asked = asyncio.create_task(patient.jobs.list())
            await asyncio.sleep(0)
            leading = asyncio.create_task(lead())
            async with asyncio.timeout(HANGS):
                assert await asked == []
                with pytest.raises(Refused):  # an answer is an answer
                    await patient.jobs.get("mine")
            leading.cancel()
