"""The stream of the demo: scikit-learn's handwritten digits, in which classes appear, and which then turn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from heliograph.core.errors import HeliographError

Array = np.ndarray[Any, Any]
Part = Literal["known digits", "new digits", "turned images"]
KNOWN = 5
"""Digits 0 to 4 are known from the beginning, 5 to 9 appear later."""
SEED_SAMPLES, TEST_SAMPLES = 200, 360
KNOWN_SAMPLES, NEW_SAMPLES, TURNED_SAMPLES = 150, 650, 950


@dataclass(frozen=True)
class Digits:
    """The demo's data: ``x`` (n, 64) float32 from 0 to 1, ``y`` (n) int64.

    Attributes:
        seed: labelled samples of the known digits, from which the first model is made.
        test: samples that nobody streams or trains on, upright; ``turned_test`` are the same, turned.
        stream: what the devices send, in order, with the part of each sample.
    """

    seed: tuple[Array, Array]
    test: tuple[Array, Array]
    stream: tuple[Array, Array]
    parts: list[Part]

    @property
    def turned_test(self) -> tuple[Array, Array]:
        return turned(self.test[0]), self.test[1]


def load(seed: int) -> Digits:
    """Return the data. Raise HeliographError if scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise HeliographError(f"{error.name} is missing; install it with pip install 'heliograph[demo]'") from None
    x, y = load_digits(return_X_y=True)
    x, rng = (x / 16).astype(np.float32), np.random.default_rng(seed)
    order = rng.permutation(len(x))
    test, pool = order[:TEST_SAMPLES], order[TEST_SAMPLES:]
    known = pool[y[pool] < KNOWN]
    first, second = known[:SEED_SAMPLES], known[SEED_SAMPLES : SEED_SAMPLES + KNOWN_SAMPLES]
    rest = pool[~np.isin(pool, np.concatenate([first, second]))][:NEW_SAMPLES]
    last = rng.choice(pool, TURNED_SAMPLES)
    known_part: list[Part] = ["known digits"] * len(second)
    new_part: list[Part] = ["new digits"] * len(rest)
    turned_part: list[Part] = ["turned images"] * len(last)
    streamed = np.concatenate([x[second], x[rest], turned(x[last])]), np.concatenate([y[second], y[rest], y[last]])
    return Digits((x[first], y[first]), (x[test], y[test]), streamed, [*known_part, *new_part, *turned_part])


def turned(x: Array) -> Array:
    """Return images (n, 64) turned by a quarter, clockwise."""
    return np.rot90(x.reshape(-1, 8, 8), -1, (1, 2)).reshape(-1, 64).copy()


def key_of(x: Array) -> bytes:
    """Return what tells two images apart: their pixels have 17 levels."""
    return np.round(np.asarray(x, np.float64) * 16).astype(np.uint8).tobytes()


def write_seed(digits: Digits, directory: Path) -> Path:
    """Write the labelled samples of the known digits as the training node's data set."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "seed.npz"
    np.savez(file, x=digits.seed[0], y=digits.seed[1])
    return file
