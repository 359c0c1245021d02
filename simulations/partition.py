"""How a data set is split over edges: evenly, or as unevenly as real ones are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.bus.errors import Refused

if TYPE_CHECKING:
    import numpy as np

DRAWS = 1000
"""Draws of Dirichlet shares until none of the parts is too small."""
SMALLEST = 2
"""Samples that every part gets: an edge without any could not take part."""


@dataclass(frozen=True)
class Split:
    """``iid``: equal parts drawn at random. ``dirichlet:ALPHA``: of each class every part has a share drawn from
    Dirichlet(ALPHA); the smaller ALPHA the more unequal the parts (Hsu et al. 2019, https://arxiv.org/abs/1909.06335).
    """

    alpha: float | None = None

    @classmethod
    def parse(cls, text: str) -> Split:
        """Raises Refused where the text is no split."""
        if text == "iid":
            return cls()
        if match := re.fullmatch(r"dirichlet:(\d+(?:\.\d*)?|\.\d+)", text):
            alpha = float(match[1])
            if 0 < alpha <= 1e6:
                return cls(alpha)
        raise Refused("invalid", field="--split", expected="iid, or dirichlet:ALPHA with ALPHA above 0, as in "
                      "dirichlet:0.5", got=text)  # fmt: skip

    @property
    def by_label(self) -> bool:
        """Whether the samples' labels decide."""
        return self.alpha is not None

    def parts(self, labels: np.ndarray[Any, Any], count: int, seed: int) -> list[np.ndarray[Any, Any]]:
        """The places of each part's samples in a data set, ``count`` arrays of int64; together each place once.

        Args:
            labels: shape (samples,): the class of each; only their number counts where ``by_label`` is False.
        Raises Refused where there are too few samples for so many parts.
        """
        import numpy as np

        rng = np.random.default_rng(seed)
        if len(labels) < count * SMALLEST:
            expected = f"at least {count * SMALLEST} samples for {count} edges"
            raise Refused("too-small", field="--data", expected=expected, got=f"{len(labels)} samples")
        if self.alpha is None:
            return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), count)]
        classes = [rng.permutation(np.flatnonzero(labels == each)) for each in np.unique(labels)]
        for _ in range(DRAWS):
            drawn: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(count)]
            for places in classes:
                ends = (np.cumsum(rng.dirichlet([self.alpha] * count))[:-1] * len(places)).astype(np.int64)
                for part, chosen in zip(drawn, np.split(places, ends), strict=True):
                    part.append(chosen)
            found = [np.sort(np.concatenate(part)) for part in drawn]
            if min(map(len, found)) >= SMALLEST:
                return found
        expected = f"a split that leaves each of {count} edges {SMALLEST} samples"
        hint = "Raise ALPHA, or take fewer edges."
        raise Refused("too-uneven", field="--split", expected=expected, got=f"dirichlet:{self.alpha:g}", hint=hint)


def held_out(samples: int, share: float, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Places to train on and places held out, drawn at random, each in order."""
    import numpy as np

    places = np.random.default_rng(seed).permutation(samples)
    cut = max(1, round(samples * share))
    return np.sort(places[cut:]), np.sort(places[:cut])
