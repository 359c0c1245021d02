"""The fuzzer finds plausible bugs: planted into a copy of the package, each is caught within a few seeds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heliograph
from heliograph.simulations.fuzz.campaign import verdict

ROOT = Path(heliograph.__file__).resolve().parents[2]
MUTANTS = Path(__file__).parent / "mutants"
FOLDERS = ("bus", "coordinator", "edge_agent", "workers", "simulations")

CAUGHT = {
    "update-counted-twice": ("recount", ("31", "48")),
    "acknowledged-before-commit": ("acknowledged_is_on_disk", ("3", "5")),
    "generation-ignored": ("generations_never_go_back", ("3", "11")),
    "values-unbounded": ("no_message_meets_a_defect", ("30", "32", "56")),
    "report-not-contained": ("a_run_settles", ("23", "30")),
    "used-samples-forgotten": ("no_sample_counts_twice", ("12", "23")),
    "refused-samples-dropped": ("what_no_deployed_version_learned_waits", ("2", "5")),
    "gate-ignored": ("no_unevaluated_version_serves", ("2", "11")),
    "promoted-in-the-status-only": ("what_serves_is_what_the_status_names", ("20", "23")),
}
"""The invariant and the seeds that catch each mutant; they are fixed, so that a blind fuzzer fails. Two of them,
``values-unbounded`` and ``report-not-contained``, meet hostile edges and devices only, the last four learning jobs."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the package for planting bugs."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copytree(ROOT / "lib", tmp_path / "lib", symlinks=True, ignore=ignore)
    return tmp_path


def _fuzz(place: Path, seed: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "heliograph.simulations.fuzz", "--seeds", "1", "--from", seed, "--no-shrink",
            "--out", str(place / "out")]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(place / "lib")}
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _plant(place: Path, patch: Path) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(place.parent)}  # ignore any enclosing repository
    argv = ["git", "apply", "-C1", str(patch)]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{patch.name} no longer applies; make it again from the present code:\n{done.stderr}")


def test_every_mutant_is_tried() -> None:
    assert sorted(CAUGHT) == sorted(patch.stem for patch in MUTANTS.glob("*.patch"))


@pytest.mark.parametrize("mutant", CAUGHT)
def test_a_mutant_is_caught(mutant: str, copy: Path) -> None:
    invariant, seeds = CAUGHT[mutant]
    _plant(copy, MUTANTS / f"{mutant}.patch")
    for seed in seeds:
        code, output = _fuzz(copy, seed)
        if code == 1 and f"seed {seed} fails: " in output and invariant in output.splitlines()[0]:
            return
    pytest.fail(f"seeds {', '.join(seeds)} do not catch {mutant} by {invariant}:\n{output}")


@pytest.mark.parametrize("seed", sorted({seed for _, seeds in CAUGHT.values() for seed in seeds}, key=int))
def test_the_same_seeds_pass_without_a_mutant(seed: str) -> None:
    assert verdict(seed).violated == ()
