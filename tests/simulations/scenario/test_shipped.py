"""The shipped scenarios meet their expectations. ``make quality`` plays all but the two that ``make bench`` plays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.catalog import BENCHMARKS
from heliograph.simulations.scenario.scenario_files import shipped


@pytest.mark.quality
@pytest.mark.parametrize("name", sorted(shipped().keys() - BENCHMARKS.keys()))
def test_a_scenario_meets_its_expectations(name: str) -> None:
    words = [sys.executable, "-m", "heliograph.cli.main", "simulate", name]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
