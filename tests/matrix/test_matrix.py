"""The matrix of brokers in containers says that it did not run where no Docker engine answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOWHERE = "unix:///nowhere/docker.sock"


def matrix(**variables: str) -> tuple[int, str]:
    """Run one test of the matrix; return the exit code, and what it printed."""
    chosen = ["tests/bus/test_retained.py", "-k", "late_subscriber and mosquitto"]
    words = ["-m", "matrix", "-p", "no:cacheprovider", *chosen]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "DOCKER_HOST": NOWHERE, "COLUMNS": "300", **variables},
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def test_without_an_engine_it_is_reported_as_not_run() -> None:
    code, said = matrix()
    assert code == 0 and "1 skipped" in said and "passed" not in said, said
    (line,) = (each for each in said.splitlines() if "not run:" in each)
    assert f"no Docker engine answers at {NOWHERE}" in line or "is not installed; 'make matrix' installs it" in line


def test_whoever_requires_an_engine_is_told_that_there_is_none() -> None:
    code, said = matrix(HELIOGRAPH_REQUIRE_DOCKER="1")
    assert code == 1 and "HELIOGRAPH_REQUIRE_DOCKER=1 requires it" in said, said
