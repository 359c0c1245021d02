"""``watch`` and its exit codes; ``stop`` and ``delete`` during a watch."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _end(process: asyncio.subprocess.Process) -> tuple[int, list[str]]:
    """Return the exit code and the remaining lines."""
    async with asyncio.timeout(HANGS):
        out, err = await process.communicate()
    assert err == b"", err
    return process.returncode or 0, out.decode().splitlines()


async def test_watching_a_successful_job_is_exit_code_0(cli: Any, job: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("good"))).code == 0
    ran = await cli("watch", "jobs/good")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    rounds = [line for line in lines if line.startswith("round ")]
    assert [line.split("  ")[:3] for line in rounds] == [
        [f"round {number}/2", "1 counted", "loss=0.5"] for number in (1, 2)
    ]
    assert lines[-1] == "job/good Succeeded: 2 rounds"
    again = await cli("watch", "job", "good")  # all changes of an ended job are printed at once
    assert again.code == 0
    assert [line for line in again.out.splitlines() if line.startswith("round ")] == rounds
    shown = (await cli("get", "jobs/good")).out.splitlines()[1].split()
    assert shown[:5] == ["good", "Succeeded", "2/2", "1", "loss=0.5"]


async def test_watching_a_failing_job_is_exit_code_1_with_its_error(cli: Any, job: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("bad", "bad.py"))).code == 0
    ran = await cli("watch", "jobs/bad")
    assert (ran.code, ran.err) == (1, "")
    last = ran.out.splitlines()[-1]
    assert last.startswith("job/bad Failed: ")
    assert "RuntimeError: no such luck" in last
    assert (await cli("get", "jobs/bad")).out.count("no such luck") == 1


async def test_watching_a_stopped_job_is_exit_code_2(cli: Any, job: Any, read_until: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("stopped", "endless.py"))).code == 0
    watching = await cli.start("watch", "jobs/stopped")
    assert await read_until(watching.stdout, "Running") == "job/stopped Running: edge-1"
    stopped = await cli("stop", "jobs/stopped")
    assert (stopped.code, stopped.out) == (0, "job/stopped stopped\n")
    assert await _end(watching) == (2, ["job/stopped Stopped: stopped on request"])
    assert (await cli("stop", "job/stopped")).out == "job/stopped had ended already (Stopped)\n"
    status = json.loads((await cli("get", "jobs/stopped", "-o", "json")).out)["status"]
    assert status["completionTime"] > status["startTime"]


async def test_watching_a_deleted_job_is_exit_code_3(cli: Any, job: Any, read_until: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("deleted", "endless.py"))).code == 0
    watching = await cli.start("watch", "jobs", "deleted")
    await read_until(watching.stdout, "Running")
    deleted = await cli("delete", "jobs/deleted")
    assert (deleted.code, deleted.out) == (0, "job/deleted deleted\n")
    assert await _end(watching) == (3, ["job/deleted deleted"])
    assert (await cli("get", "jobs/deleted")).code == 4
    assert (await cli("delete", "model/of-deleted")).out == "model/of-deleted deleted\n"


async def test_a_pending_job_names_its_missing_resources_and_then_runs(cli: Any, job: Any, read_until: Any) -> None:
    _, task = json.loads(job("patient"))
    assert (await cli("apply", "-f", "-", stdin=json.dumps(task))).code == 0
    watching = await cli.start("watch", "jobs/patient")
    assert await read_until(watching.stdout, "Pending") == "job/patient Pending"
    missing = await read_until(watching.stdout, "Ready=False")
    assert missing == "Ready=False Missing: model of-patient does not exist"
    assert (await cli("apply", "-f", "-", stdin=job("patient"))).code == 0
    code, lines = await _end(watching)
    assert code == 0
    assert lines[:2] == ["job/patient Running: edge-1", "Ready=True Selected: 1 edges"]
    assert lines[-1] == "job/patient Succeeded: 2 rounds"


async def test_a_job_whose_script_lies_on_no_node_names_it(cli: Any, job: Any, read_until: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("lost", "absent.py"))).code == 0
    watching = await cli.start("watch", "jobs/lost")
    waits = "edge-1: script absent.py is not on this node"
    assert await read_until(watching.stdout, "WorkersHealthy") == f"WorkersHealthy=False WorkerWaits: {waits}"
    assert waits in (await cli("get", "jobs/lost")).out
    assert (await cli("delete", "jobs/lost")).code == 0
    assert await _end(watching) == (3, ["job/lost deleted"])


@pytest.mark.long
async def test_a_watch_survives_a_coordinator_restart(cli: Any, job: Any, cluster: Any, read_until: Any) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("through", "endless.py"))).code == 0
    watching = await cli.start("watch", "jobs/through")
    await read_until(watching.stdout, "Running")
    await cluster.kill("coordinator")
    assert "; waiting" in await read_until(watching.stdout, "coordinator")
    assert (await cli("get", "jobs")).code == 5
    examined = await cli("doctor", "--check", "coordinator")
    assert (examined.code, "✗ coordinator   no coordinator answers: " in examined.out) == (1, True)
    await cluster.start_coordinator()
    await cluster.wait_ready()
    assert (await cli("stop", "jobs/through")).code == 0
    code, lines = await _end(watching)
    assert code == 2
    assert lines[-1] == "job/through Stopped: stopped on request"
