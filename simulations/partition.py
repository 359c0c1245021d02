"""How a data set is split over edges: evenly, or as unevenly as real ones are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.bus.errors import Refused

if TYPE_CHECKING:
    import numpy as np

SMALLEST = 2
"""Samples that every part gets, from the largest where it must be: an edge without any could not take part."""


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
        drawn: list[list[int]] = [[] for _ in range(count)]
        for each in np.unique(labels):
            places = rng.permutation(np.flatnonzero(labels == each))
            sizes = rng.multinomial(len(places), rng.dirichlet([self.alpha] * count))
            for part, chosen in zip(drawn, np.split(places, np.cumsum(sizes)[:-1]), strict=True):
                part.extend(chosen.tolist())
        for part in drawn:
            while len(part) < SMALLEST:
                part.append(max(drawn, key=len).pop())
        return [np.array(sorted(part), np.int64) for part in drawn]


def held_out(samples: int, share: float, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Places to train on and places held out, drawn at random, each in order."""
    import numpy as np

    places = np.random.default_rng(seed).permutation(samples)
    cut = max(1, round(samples * share))
    return np.sort(places[cut:]), np.sort(places[:cut])
