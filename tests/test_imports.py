"""Modules that importing a part of Heliograph must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "scipy", "safetensors", "sklearn", "torch", "tensorflow", "keras", "plotext"}


@pytest.mark.parametrize(
    "module",
    [
        "heliograph",
        "heliograph.edge_agent.agent",
        "heliograph.coordinator.coordinator",
        "heliograph.cli.main",
        "heliograph.blocking_client",
        "heliograph.client",
        "heliograph.federated",
        "heliograph.local.cluster",
    ],
)
def test_neither_numpy_nor_a_framework_is_loaded(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_agent_loads_nothing_of_the_coordinator_or_the_workers() -> None:
    code = "import sys, heliograph.edge_agent.agent; print(*(name for name in sys.modules if 'heliograph.' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    floors = {name.split(".")[1] for name in done.stdout.split()}
    assert floors <= {"bus", "core", "edge_agent", "labelling"}, floors
