"""The training samples of a scenario's edges, computed on demand for each edge; equal seeds give equal samples."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError
from heliograph.core.world import seeded
from heliograph.local.split import Split
from heliograph.simulations.scenario.document import Data

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    Array = np.ndarray[Any, Any]
    SampleSet = tuple[Array, Array]
    """``x``, shape (samples, 64), float32; ``y``, shape (samples,), int64."""

FEATURES, CLASSES = 64, 10
APART = 3.0
"""Distance of a synthetic class's centre from the origin, in standard deviations of its samples. A linear model trained
on many samples is right in nine of ten cases."""


class Samples:
    """The training samples of every edge, and the held-out samples."""

    def __init__(self, data: Data, edges: Sequence[str], seed: int) -> None:
        import numpy as np

        self._data = data
        self._seed = seed
        self._places = {edge: number for number, edge in enumerate(edges)}
        self._whole: SampleSet | None = None
        training_size = data.training_samples(len(edges))
        if data.set == "digits":
            x, y = _digits()
            order = np.random.default_rng(self._seed_of("digits")).permutation(len(y))
            self._whole = x[order], y[order]
            labels = self._whole[1][data.held_out :][:training_size]
        else:
            labels = np.arange(training_size, dtype=np.int64) % CLASSES
        self._labels = labels
        self._parts = Split.parse(data.partition).parts(labels, len(edges), self._seed_of("split"))

    def of(self, edge: str) -> SampleSet:
        """Return an edge's samples. Raises KeyError for an unknown edge."""
        part = self._parts[self._places[edge]]
        if self._whole is not None:
            x, y = self._whole
            return x[self._data.held_out :][part], y[self._data.held_out :][part]
        return self._synthetic(f"part/{edge}", self._labels[part])

    def number_of(self, edge: str) -> int:
        """Return an edge's number of samples."""
        return len(self._parts[self._places[edge]])

    def held_out(self) -> SampleSet:
        """Return the held-out samples; no edge trains on them."""
        import numpy as np

        if self._whole is not None:
            x, y = self._whole
            return x[: self._data.held_out], y[: self._data.held_out]
        return self._synthetic("held-out", np.arange(self._data.held_out, dtype=np.int64) % CLASSES)

    def _synthetic(self, purpose: str, labels: Array) -> SampleSet:
        """Draw synthetic samples of these classes from a gaussian around each class's centre."""
        import numpy as np

        noise = np.random.default_rng(self._seed_of(purpose)).standard_normal((len(labels), FEATURES), np.float32)
        return self._centres[labels] + noise, labels

    @cached_property
    def _centres(self) -> Array:
        import numpy as np

        centres = np.random.default_rng(self._seed_of("centres")).normal(size=(CLASSES, FEATURES))
        centres *= APART / np.linalg.norm(centres, axis=1, keepdims=True)
        return centres.astype(np.float32)

    def _seed_of(self, purpose: str) -> int:
        return seeded(f"samples/{self._seed}/{purpose}").getrandbits(63)


def _digits() -> SampleSet:
    """Load scikit-learn's handwritten digits, 1,797 real images of 8 × 8. Raises HeliographError without it."""
    try:
        import numpy as np
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise HeliographError(f"{error.name} is not installed: pip install 'heliograph[demo]', or use "
                              "data: {set: synthetic}") from None  # fmt: skip
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)
