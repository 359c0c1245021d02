"""A short run of real processes under chosen faults: it settles, and every invariant holds."""

from __future__ import annotations

import asyncio
import struct
import sys
from pathlib import Path

import pytest

from heliograph.core.world import World
from heliograph.simulations.faults import chaos
from heliograph.simulations.faults.fault_plan import Fault
from heliograph.simulations.faults.skewed import Clock
from tests.patience import HANGS

FAULTS = (
    Fault("black-hole", "edge-2", at=0.5, duration=3.0),
    Fault("wrong-clock", "edge-3", at=0.6, duration=4.0, amount=-1800.0),
    Fault("kill-agent", "edge-1", at=1.0, duration=0.5),
    Fault("kill-worker", "edge-3", at=1.5, duration=0.0),
    Fault("kill-worker", "cloud", at=2.0, duration=0.0),
    Fault("full-disk", "edge-2", at=2.0, duration=1.5, amount=-1.0),
    Fault("restart-device", "edge-3", at=2.2, duration=0.2),
    Fault("kill-node-broker", "edge-3", at=3.0, duration=0.3),
    Fault("kill-broker", "cloud", at=4.0, duration=0.5),
    Fault("kill-coordinator", "coordinator", at=4.2, duration=0.3),
    Fault("reset", "edge-1", at=5.0, duration=0.3),
)


@pytest.mark.long
async def test_acknowledged_events_and_counted_updates_survive_the_faults(tmp_path: Path) -> None:
    async with asyncio.timeout(HANGS):
        outcome = await chaos.run(FAULTS, 6.0, "directed", tmp_path, World())
    output = (tmp_path / "log.txt").read_text().splitlines()
    assert not outcome.violations, "\n".join([*map(str, outcome.violations), *outcome.timeline.lines, *output[-300:]])
    evidence = outcome.evidence
    assert all(lives[-1].acknowledged == lives[-1].sent > 0 for lives in evidence.lives.values())
    assert len(evidence.lives["edge-3"]) == 2
    assert evidence.jobs and evidence.records


async def test_a_process_gets_a_wrong_clock_and_a_right_one_again(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    clock.offset = 3600.0
    assert struct.unpack("<d", clock.file.read_bytes()) == (3600.0,)
    program = (
        "import runpy, sys, time; from heliograph.simulations.faults import skewed; from pathlib import Path\n"
        "right, file = time.time(), Path(sys.argv[1])\n"
        "def run_module(name, run_name):\n"
        "    from heliograph.core.world import World\n"
        "    print(name, sys.argv[1:], round(World().now() - right, -2)); skewed.Clock(file).offset = 0.0\n"
        "    print(round(World().now() - right, -2))\n"
        "runpy.run_module = run_module\n"
        "skewed.main()\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(clock.file), "agent", stdout=-1)
    output, _ = await process.communicate()
    assert output.decode().splitlines() == ["heliograph.cli.main ['agent'] 3600.0", "0.0"]
