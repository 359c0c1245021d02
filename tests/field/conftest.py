"""What users brought: their scripts and files, and the command line as they type it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import alone as alone  # a fixture, as the two below
from tests.cli.conftest import read_until as read_until
from tests.cli.conftest import typed as typed

FIELD = Path(__file__).parents[1] / "data" / "field"


@pytest.fixture
def files() -> Path:
    """Return the directory of data files as people have them."""
    return FIELD / "files"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a user's project directory: a copy of the training scripts, each with its trouble in its first line."""
    return Path(shutil.copytree(FIELD / "scripts", tmp_path / "project"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an npz with ``x`` float32 (1797, 64) between 0 and 1, and ``y`` int64 (1797,)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    file = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(file, x=(x / 16).astype(np.float32), y=y.astype(np.int64))
    return file
