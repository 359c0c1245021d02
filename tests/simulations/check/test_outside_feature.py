"""The trace check of a feature outside Heliograph: its inputs, outputs and ``job`` follow from its declaration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heliograph.bus.contract.features import ENTRY_POINTS
from tests.outside_package import install

SCRIPT = """
import json, sys
from pathlib import Path
from beacons import FLASH, Flash
from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.port import Port
from heliograph.bus.traces.writing import TraceWriter
from heliograph.simulations.check import feed_coordinator
from heliograph.simulations.check.component_check import check
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.virtual.loop import run
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

TRACE = Path(sys.argv[1])

async def record(loop):
    with TraceWriter(TRACE) as writer:
        cluster = VirtualCluster(loop, [], Echo(1), 1, writer.write, lambda process, line: None)
        await cluster.start()
        async with cluster.client() as bus:
            for name, flashes in (("north", 2), ("south", 3)):
                beacon = {"kind": "Beacon", "metadata": {"name": name}, "spec": {"flashes": flashes}}
                await cluster.world.sleep(5)
                await bus.request(REQUEST.at(resource="beacons", verb="create"), json.dumps(beacon).encode(), 5)
            for _ in range(2):
                await cluster.world.sleep(5)
                await Port(bus, cluster.world, "cloud/lamp/1").publish(FLASH, Flash(seconds=0.1), beacon="north")
            await cluster.world.sleep(5)
        await cluster.stop()

def statuses(job=""):
    found = check(TRACE, "coordinator", job=job)
    assert found.equal, (found.missing, found.differences)
    beacons = [each for each in found.published if each.topic.startswith("status/beacons/")]
    return [(each.topic, each.payload["status"]) for each in beacons]

run(record)
assert FLASH in feed_coordinator.INPUTS
print(json.dumps([statuses(), statuses("north")]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the feature installed."""
    installed = tmp_path / "installed"
    install(installed, "features", ENTRY_POINTS, ["beacons = beacons:DECLARATION"])
    path = [str(installed), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def test_an_outside_feature_is_checked_by_its_declaration(tmp_path: Path, environment: dict[str, str]) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "beacons.mcap")]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    every, north = json.loads(ran.stdout)
    assert [topic for topic, _ in every if topic.endswith("south")]
    assert {topic for topic, _ in north} == {"status/beacons/north"}
    assert north[-1][1] == {"phase": "Succeeded", "seen": 2}
