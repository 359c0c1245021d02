"""What ``deploy/make-runtime`` makes, once for all tests of a process."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACE = "/opt/heliograph"
_NO_INDEX = ("No matching distribution", "Could not find a version", "Connection")


@functools.cache
def runtime(name: str) -> tuple[Path, str]:
    """Return the directory of a set's runtime, and what the script has said. Skip the test where no index answers."""
    place = Path(tempfile.mkdtemp(prefix="heliograph-runtime-"))
    done = subprocess.run(
        [ROOT / "deploy" / "make-runtime", name, place / "made", PLACE], capture_output=True, text=True,
        env=os.environ | {"PYTHON": interpreter(), "PIP": sys.executable},
    )  # fmt: skip
    if done.returncode and any(words in done.stderr for words in _NO_INDEX):
        pytest.skip("no package index answers: the runtime is not made")
    assert done.returncode == 0, done.stderr[-2000:]
    return place / "made", done.stdout


def interpreter() -> str:
    """Return an interpreter that is no virtual environment's: a runtime keeps its path."""
    return shutil.which("python3", path=f"{sys.base_prefix}/bin") or "/usr/bin/python3"


def python(made: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a runtime's interpreter with nothing of this process's environment that leads to other packages."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run([made / "bin" / "python", *words], capture_output=True, text=True, env=variables)
