"""The demo as a user runs it: real processes, a real outage, complete counts, and no process left behind."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.child_process import wait_for_exit
from heliograph.local.demo import digits
from heliograph.local.demo.demo import Outcome, describe_updates, shortcomings
from heliograph.local.demo.tally import Tally
from tests.patience import HANGS

EXAMPLE = Path(__file__).parents[2] / "examples" / "federated-task.json"


async def _demo(tmp_path: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "heliograph.cli.main", "demo", "--plain", "--out", str(tmp_path / "out"), *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def _descendants(root: int) -> set[int]:
    """Return the processes that a process has started, directly or through others (Linux)."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = place.read_text()
        except OSError:
            continue
        parents[int(place.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {root, *found}} - found:
        found |= more
    return found


@pytest.mark.long
async def test_the_demo_with_mosquitto_on_the_edge_that_loses_its_link(
    tmp_path: Path, mosquitto: Callable[[], Awaitable[Any]]
) -> None:
    node = await mosquitto()
    process = await _demo(tmp_path, "--edge-broker", f"edge-2={node.url()}")
    async with asyncio.timeout(HANGS):
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    match = re.search(r"(\d+) sent, (\d+) received, lost (\d+), twice (\d+)", text)
    assert match is not None, text
    sent, received, lost, twice = map(int, match.groups())
    assert sent == received > 0
    assert lost == twice == 0
    assert "Running: edge-1, edge-2, edge-3" in text
    assert "round 10/10  3 counted" in text
    assert re.search(r"edge-2 back: [1-9]\d* events replayed", text), text
    assert re.search(r"updates of edge-2: counted in rounds 1-2.*10", text), text
    with TensorFile(tmp_path / "out" / "digits.safetensors") as model:
        assert set(model.tensors) == {"w1", "b1", "w2", "b2"}


async def test_11_one_round_of_the_demo_is_no_failure_and_no_empty_plot(tmp_path: Path) -> None:
    process = await _demo(tmp_path, "--rounds", "1", "--edges", "2", "--seed", "3", "--no-outage")
    async with asyncio.timeout(HANGS):
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert re.search(r"^test accuracy after one round: 0\.\d+$", text, re.M), text
    assert "─" not in text


@pytest.mark.parametrize(("rounds", "accuracies", "words"), [
    (10, [0.5, 0.94], None), (10, [0.5, 0.9], "the test accuracy is 0.900, below the goal of 0.93"), (2, [0.5], None),
    (2, [], "the test accuracy is unknown"),
])  # fmt: skip
def test_the_goal_is_that_of_ten_rounds(rounds: int, accuracies: list[float], words: str | None) -> None:
    found = shortcomings(Outcome("edge-2", accuracies, Path("model")), rounds)
    assert len(found) == (words is not None)
    assert all(line.startswith(str(words)) for line in found)


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_stops_all_processes(tmp_path: Path, name: str) -> None:
    process = await _demo(tmp_path, "--no-outage", "--edges", "2")
    assert process.stdout is not None
    async with asyncio.timeout(HANGS):
        async for line in process.stdout:
            if line.startswith(b"round"):
                break
        started = _descendants(process.pid)
        assert len(started) >= 10  # three brokers, coordinator, three agents, their workers, the device
        process.send_signal(getattr(signal, name))
        rest = await process.stdout.read()
        assert await process.wait() == 130, rest.decode()
    assert b"Traceback" not in rest
    async with asyncio.timeout(HANGS):  # the one that deletes the directory ends last
        await asyncio.gather(*map(wait_for_exit, started))


def test_the_example_is_the_demos_task() -> None:
    assert json.loads(EXAMPLE.read_text()) == digits.task()


def test_the_tally_counts_lost_and_repeated_numbers() -> None:
    tally = Tally()
    for number in (1, 2, 2, 5, 0, -3):
        tally.count(number)
    assert (tally.received, tally.lost(6), tally.gaps, tally.twice) == (3, 3, 2, 1)


def test_the_fate_of_an_edges_updates_is_described() -> None:
    rounds = [
        {"round": n, "counted": 1, "edges": ["edge-2"] if n not in (3, 4) else [], "model": "m"} for n in range(1, 6)
    ]
    document = digits.task() | {
        "status": {"rounds": rounds, "late": [{"edge": "edge-2", "round": 3, "reason": "closed"}]}
    }
    assert describe_updates(document, "edge-2") == (
        "counted in rounds 1-2, 5; too late for round 3; missing in round 4"
    )
    assert describe_updates(document, "edge-1").startswith("never counted")
