"""What the edges of a scenario train on: each edge's part made when it is asked for, the same for the same seed."""

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
    Set = tuple[Array, Array]
    """``x``, shape (samples, 64), float32; ``y``, shape (samples,), int64."""

FEATURES, CLASSES = 64, 10
APART = 3.0
"""Distance of a synthetic class's centre from the origin, in standard deviations of its samples: a linear model that
has seen many is right in nine of ten cases."""


class Samples:
    """The samples of every edge, and the held-out ones."""

    def __init__(self, data: Data, edges: Sequence[str], seed: int) -> None:
        import numpy as np

        self._data = data
        self._seed = seed
        self._places = {edge: number for number, edge in enumerate(edges)}
        self._whole: Set | None = None
        trained = data.trained_on(len(edges))
        if data.set == "digits":
            x, y = _digits()
            order = np.random.default_rng(self._number("digits")).permutation(len(y))
            self._whole = x[order], y[order]
            labels = self._whole[1][data.held_out :][:trained]
        else:
            labels = np.arange(trained, dtype=np.int64) % CLASSES
        self._labels = labels
        self._parts = Split.parse(data.partition).parts(labels, len(edges), self._number("split"))

    def of(self, edge: str) -> Set:
        """An edge's own part. Raises KeyError where there is no such edge."""
        part = self._parts[self._places[edge]]
        if self._whole is not None:
            x, y = self._whole
            return x[self._data.held_out :][part], y[self._data.held_out :][part]
        return self._made(f"part/{edge}", self._labels[part])

    def number_of(self, edge: str) -> int:
        """How many samples an edge has."""
        return len(self._parts[self._places[edge]])

    def held_out(self) -> Set:
        """What nobody trains on."""
        import numpy as np

        if self._whole is not None:
            x, y = self._whole
            return x[: self._data.held_out], y[: self._data.held_out]
        return self._made("held-out", np.arange(self._data.held_out, dtype=np.int64) % CLASSES)

    def _made(self, what: str, labels: Array) -> Set:
        """Synthetic samples of these classes: a gaussian around each class's centre."""
        import numpy as np

        noise = np.random.default_rng(self._number(what)).standard_normal((len(labels), FEATURES), np.float32)
        return self._centres[labels] + noise, labels

    @cached_property
    def _centres(self) -> Array:
        import numpy as np

        centres = np.random.default_rng(self._number("centres")).normal(size=(CLASSES, FEATURES))
        centres *= APART / np.linalg.norm(centres, axis=1, keepdims=True)
        return centres.astype(np.float32)

    def _number(self, what: str) -> int:
        return seeded(f"samples/{self._seed}/{what}").getrandbits(63)


def _digits() -> Set:
    """scikit-learn's handwritten digits, 1,797 real images of 8 × 8. Raises HeliographError where it is missing."""
    try:
        import numpy as np
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise HeliographError(f"{error.name} is not installed; pip install 'heliograph[demo]' brings it, or take "
                              "data: {set: synthetic}") from None  # fmt: skip
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)
