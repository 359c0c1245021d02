"""Split-MNIST with few steps: replay keeps the old digits. ``make split-mnist`` takes all steps."""

from __future__ import annotations

import pytest

from benchmarks.quality.mnist import mnist
from benchmarks.quality.split_mnist import run
from heliograph.core.errors import HeliographError
from heliograph.incremental.strategies import ICaRL, Replay, Strategy


@pytest.mark.quality
@pytest.mark.filterwarnings("ignore:training on the new classes")
@pytest.mark.parametrize(("strategy", "least", "most"), [
    (None, 0.19, 0.21), (Replay(1100), 0.88, 1.0), (ICaRL(2000), 0.88, 1.0),
])  # fmt: skip
def test_old_digits_are_kept_by_replay(strategy: Strategy | None, least: float, most: float) -> None:
    try:
        mnist()
    except HeliographError as error:
        pytest.skip(str(error))
    assert least <= run(strategy, steps=100)[-1] <= most
