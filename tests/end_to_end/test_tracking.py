"""A killed tracker, and a killed broker, under a running job: each round is there once, and none is missing."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heliograph.client import AsyncClient
from heliograph.core.child_process import dying_with_parent
from heliograph.local.cluster import LocalCluster
from heliograph.tracking.event_files import scalars_in
from tests.patience import HANGS

EDGES = ["edge-1", "edge-2"]
ROUNDS = 6


async def start_tracker(server: str, directory: Path, out: Path) -> asyncio.subprocess.Process:
    words = ("track", "jobs/gated", "--tensorboard", str(directory), "--server", server)
    with out.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "heliograph.cli.main", *words, stdout=file, stderr=file,
            preexec_fn=dying_with_parent(),
        )  # fmt: skip


async def until_written(directory: Path, number: int) -> None:
    """Wait until a round is in the event files."""
    async with asyncio.timeout(60):
        while number not in rounds_in(directory):
            await asyncio.sleep(0.05)  # files tell nobody that they have grown


def rounds_in(directory: Path) -> Counter[int]:
    return Counter(step for run in directory.glob("gated-*") for step, values in scalars_in(run)
                   if "round/counted" in values)  # fmt: skip


@pytest.mark.long
async def test_killed_trackers_and_a_killed_broker(
    tmp_path: Path, gates: Any, framework: Callable[[str], ModuleType]
) -> None:
    framework("tensorboardX")
    script, runs, out = gates(), tmp_path / "runs", tmp_path / "out.txt"
    worker = {"trainScriptBootFile": "gated.py"}
    spec = {
        "aggregationWorker": {"model": {"name": "count"}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in EDGES],
        "evaluationWorker": {"dataset": {"name": "held-out"}},
        "rounds": ROUNDS,
    }
    (tmp_path / "held-out.csv").write_text("x,y\n1,2\n3,4\n")
    async with (
        LocalCluster(tmp_path / "cluster", EDGES, code=(script.code,),
                     datasets={"cloud": {"held-out": tmp_path / "held-out.csv"}}) as cluster,
        AsyncClient(cluster.server, timeout=HANGS, leader_timeout=HANGS) as client,
    ):  # fmt: skip
        await client.models.create({"kind": "Model", "metadata": {"name": "count"}})
        await client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "gated"}, "spec": spec})
        script.open("edge-1-initial", "edge-2-initial", "cloud-evaluate")

        def next_round(number: int) -> None:
            script.open(*(f"{edge}-{number}" for edge in EDGES))

        tracker = await start_tracker(cluster.server, runs, out)
        next_round(1)
        await until_written(runs, 1)
        next_round(2)  # it is killed while the round may be being written
        tracker.kill()
        await tracker.wait()
        tracker = await start_tracker(cluster.server, runs, out)
        await until_written(runs, 2)
        assert cluster.broker is not None
        await cluster.broker.kill()
        await cluster.broker.start()
        await client.bus.link.wait_up(HANGS)
        next_round(3)
        await until_written(runs, 3)
        tracker.kill()
        await tracker.wait()
        for number in (4, 5):  # nobody looks
            next_round(number)
            await cluster.wait_for_line("edge-1", f"at gate edge-1-{number + 1}")
        tracker = await start_tracker(cluster.server, runs, out)
        await until_written(runs, 5)
        next_round(6)
        async with asyncio.timeout(HANGS):
            assert await tracker.wait() == 0, out.read_text()
        document = await client.jobs.get("gated")
    assert document["status"]["phase"] == "Succeeded"
    assert rounds_in(runs) == Counter(range(1, ROUNDS + 1))
    (run,) = runs.iterdir()
    values = [(step, each) for step, each in scalars_in(run) if "round/counted" in each]
    assert [each["edge/edge-1/counted"] for _, each in sorted(values, key=lambda pair: pair[0])] == [*range(1, 7)]
    evaluated = [(each["round"], each["evaluation"]["mean"]) for each in document["status"]["rounds"]
                 if each.get("evaluation")]  # fmt: skip
    tests = [(step, each["test/mean"]) for step, each in scalars_in(run) if "test/mean" in each]
    assert sorted(tests) == evaluated
    assert evaluated[-1] == (ROUNDS, ROUNDS)
