"""How a data set is split over edges: evenly, or as unevenly as real ones are."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SMALLEST = 2
"""Samples that every part gets, from the largest where it must be: an edge without any could not take part."""
MOST_LABELS = 10_000

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


@dataclass(frozen=True)
class Split:
    """At most one of its attributes is set; none of them is ``iid``, equal parts drawn at random.

    Attributes:
        alpha: ``dirichlet:ALPHA``: of each class every part has a share drawn from Dirichlet(ALPHA); the smaller
            ALPHA the more unequal the parts (Hsu et al. 2019, https://arxiv.org/abs/1909.06335).
        labels: ``by-label:N``: every part has samples of N classes only, as in the pathological split of McMahan et
            al. 2017, https://arxiv.org/abs/1602.05629; of more where there would be classes that nobody has.
        exponent: ``by-size:EXPONENT``: classes are even, sizes are not: the n-th largest part has a share that goes
            with n to the power -EXPONENT (Zipf), and which part that is, is drawn.
    """

    alpha: float | None = None
    labels: int | None = None
    exponent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Split:
        """Raises Refused where the text is no split."""
        if text == "iid":
            return cls()
        if match := re.fullmatch(f"dirichlet:{_NUMBER}", text):
            alpha = float(match[1])
            if 0 < alpha <= 1e6:
                return cls(alpha)
        if (match := re.fullmatch(r"by-label:(\d{1,5})", text)) and 0 < int(match[1]) <= MOST_LABELS:
            return cls(labels=int(match[1]))
        if (match := re.fullmatch(f"by-size:{_NUMBER}", text)) and 0 < float(match[1]) <= 10:
            return cls(exponent=float(match[1]))
        raise Refused("invalid", field="--split", expected="iid, or dirichlet:ALPHA with ALPHA above 0, as in "
                      "dirichlet:0.5, or by-label:LABELS, as in by-label:2, or by-size:EXPONENT, as in by-size:1.5",
                      got=text)  # fmt: skip

    @property
    def by_label(self) -> bool:
        """Whether the samples' labels decide."""
        return self.alpha is not None or self.labels is not None

    def parts(self, labels: Array, count: int, seed: int) -> list[Array]:
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
        if self.exponent is not None:
            sizes = _zipf(len(labels), count, self.exponent)[rng.permutation(count)]
            return [np.sort(part) for part in np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])]
        if not self.by_label:
            return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), count)]
        drawn = _dealt(labels, count, self.labels, rng) if self.labels else _shared(labels, count, self.alpha or 1, rng)
        _fill(drawn)
        return [np.array(sorted(part), np.int64) for part in drawn]


def held_out(samples: int, share: float, seed: int) -> tuple[Array, Array]:
    """Places to train on and places held out, drawn at random, each in order."""
    import numpy as np

    places = np.random.default_rng(seed).permutation(samples)
    cut = max(1, round(samples * share))
    return np.sort(places[cut:]), np.sort(places[:cut])


def _zipf(samples: int, count: int, exponent: float) -> Array:
    """Sizes that sum to ``samples``, the largest first, each at least SMALLEST."""
    import numpy as np

    shares = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    free = samples - count * SMALLEST
    sizes: Array = SMALLEST + np.floor(free * shares / shares.sum()).astype(np.int64)
    sizes[0] += samples - sizes.sum()
    return sizes


def _shared(labels: Array, count: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    """Of each class every part has its share, drawn from Dirichlet(alpha)."""
    import numpy as np

    drawn: list[list[int]] = [[] for _ in range(count)]
    for each in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == each))
        sizes = rng.multinomial(len(places), rng.dirichlet([alpha] * count))
        for part, chosen in zip(drawn, np.split(places, np.cumsum(sizes)[:-1]), strict=True):
            part.extend(chosen.tolist())
    return drawn


def _dealt(labels: Array, count: int, each: int, rng: np.random.Generator) -> list[list[int]]:
    """Every part is given classes, those that the fewest have yet; a class's samples go evenly to those who have it."""
    import numpy as np

    classes = np.unique(labels)
    rounds = max(count * min(each, len(classes)), len(classes))
    holders: list[list[int]] = [[] for _ in classes]
    held = np.zeros(len(classes))
    for number in range(count):
        wanted = rounds * (number + 1) // count - rounds * number // count
        chosen = np.lexsort((rng.random(len(classes)), held))[:wanted]
        held[chosen] += 1
        for place in chosen:
            holders[place].append(number)
    drawn: list[list[int]] = [[] for _ in range(count)]
    for each_class, who in zip(classes, holders, strict=True):
        places = rng.permutation(np.flatnonzero(labels == each_class))
        for number, part in zip(who, np.array_split(places, len(who)), strict=True):
            drawn[number].extend(part.tolist())
    return drawn


def _fill(drawn: list[list[int]]) -> None:
    """Parts that are too small get samples of the largest."""
    poor = [part for part in drawn if len(part) < SMALLEST]
    rich = [(-len(part), number) for number, part in enumerate(drawn)]
    heapq.heapify(rich)
    for part in poor:
        while len(part) < SMALLEST:
            size, number = rich[0]
            part.append(drawn[number].pop())
            heapq.heapreplace(rich, (size + 1, number))
