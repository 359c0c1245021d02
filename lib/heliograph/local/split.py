"""Splits of a data set over edges: evenly, or as unevenly as real data."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MIN_SAMPLES = 2
"""Least number of samples of a part, taken from the largest part if needed: an edge without samples cannot train."""
MAX_LABELS = 10_000

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


@dataclass(frozen=True)
class Split:
    """A kind of split, with at most one attribute set. Without any it is ``iid``: equal parts drawn at random.

    Attributes:
        alpha: ``dirichlet:ALPHA``: each part's share of a class is drawn from Dirichlet(ALPHA); a smaller ALPHA gives
            more unequal parts (Hsu et al. 2019, https://arxiv.org/abs/1909.06335).
        labels: ``by-label:N``: each part has samples of N classes only, as in the pathological split of McMahan et
            al. 2017, https://arxiv.org/abs/1602.05629; of more if some class would belong to no part.
        exponent: ``by-size:EXPONENT``: classes are even and sizes are not: the share of the n-th largest part is
            proportional to n to the power -EXPONENT (Zipf); the order of the parts is random.
        column: ``by-column:NAME``: samples with the same value there, such as a user's, lie in one part; the parts are
            about equally large.
    """

    alpha: float | None = None
    labels: int | None = None
    exponent: float | None = None
    column: str = ""

    @classmethod
    def parse(cls, text: str) -> Split:
        """Return the split that ``text`` names. Raise Refused if it names none."""
        if text == "iid":
            return cls()
        if match := re.fullmatch(f"dirichlet:{_NUMBER}", text):
            alpha = float(match[1])
            if 0 < alpha <= 1e6:
                return cls(alpha)
        if (match := re.fullmatch(r"by-label:(\d{1,5})", text)) and 0 < int(match[1]) <= MAX_LABELS:
            return cls(labels=int(match[1]))
        if (match := re.fullmatch(f"by-size:{_NUMBER}", text)) and 0 < float(match[1]) <= 10:
            return cls(exponent=float(match[1]))
        if text.startswith("by-column:") and (name := text.removeprefix("by-column:").strip()):
            return cls(column=name)
        raise Refused("invalid", field="--split", expected="iid, or dirichlet:ALPHA with ALPHA above 0, as in "
                      "dirichlet:0.5, or by-label:LABELS, as in by-label:2, or by-size:EXPONENT, as in by-size:1.5, "
                      "or by-column:NAME, as in by-column:user", got=text)  # fmt: skip

    @property
    def by_label(self) -> bool:
        """True if the split depends on the samples' labels."""
        return self.alpha is not None or self.labels is not None

    def parts(self, labels: Array, count: int, seed: int) -> list[Array]:
        """Split the samples into ``count`` parts; return each part's indices, sorted, int64. No two parts overlap.

        Args:
            labels: the class of each sample, or its value in ``column``, shape (samples,); for other splits only its
                length matters.
            count: number of parts.
            seed: seed of the random generator.

        Raises:
            Refused: if there are too few samples, or values of ``column``, for so many parts.
        """
        import numpy as np

        rng = np.random.default_rng(seed)
        if len(labels) < count * MIN_SAMPLES:
            expected = f"at least {count * MIN_SAMPLES} samples for {count} edges"
            raise Refused("too-small", field="--data", expected=expected, got=f"{len(labels)} samples")
        if self.exponent is not None:
            sizes = _zipf(len(labels), count, self.exponent)[rng.permutation(count)]
            return [np.sort(part) for part in np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])]
        if self.column:
            return _deal_groups(labels, count, self.column, rng)
        if not self.by_label:
            return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), count)]
        parts = (
            _deal_classes(labels, count, self.labels, rng)
            if self.labels
            else _draw_shares(labels, count, self.alpha or 1, rng)
        )
        return [np.sort(part) for part in _fill_small(parts)]


def train_and_test(samples: int, share: float, seed: int, labels: Array | None = None) -> tuple[Array, Array]:
    """Return the indices of the training samples and of the test samples, drawn at random, each sorted.

    Args:
        labels: the class of each sample, shape (samples,); each class then has its share in the test.
    """
    import numpy as np

    indices = np.random.default_rng(seed).permutation(samples)
    cut = max(1, round(samples * share))
    if labels is not None:
        # sort by class, and take every 1/share-th sample of the whole row: each class gives its share, rounded
        indices = indices[np.argsort(labels[indices], kind="stable")]
        taken = np.zeros(samples, np.bool_)
        taken[((np.arange(cut) + 0.5) * samples / cut).astype(np.int64)] = True
        indices = np.concatenate([indices[taken], indices[~taken]])
    return np.sort(indices[cut:]), np.sort(indices[:cut])


def _zipf(samples: int, count: int, exponent: float) -> Array:
    """Return sizes that sum to ``samples``, the largest first, each at least MIN_SAMPLES."""
    import numpy as np

    shares = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    free = samples - count * MIN_SAMPLES
    sizes: Array = MIN_SAMPLES + np.floor(free * shares / shares.sum()).astype(np.int64)
    sizes[0] += samples - sizes.sum()
    return sizes


def _draw_shares(labels: Array, count: int, alpha: float, rng: np.random.Generator) -> list[Array]:
    """Give each part its share of every class, drawn from Dirichlet(alpha)."""
    import numpy as np

    parts: list[list[Array]] = [[] for _ in range(count)]
    for each in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == each))
        sizes = rng.multinomial(len(indices), rng.dirichlet([alpha] * count))
        for part, chosen in zip(parts, np.split(indices, np.cumsum(sizes)[:-1]), strict=True):
            part.append(chosen)
    return [np.concatenate(part) for part in parts]


def _deal_classes(labels: Array, count: int, each: int, rng: np.random.Generator) -> list[Array]:
    """Give each part the classes that the fewest parts have; split a class's samples evenly over its parts."""
    import numpy as np

    classes = np.unique(labels)
    deals = max(count * min(each, len(classes)), len(classes))
    owners: list[list[int]] = [[] for _ in classes]
    owner_counts = np.zeros(len(classes))
    for number in range(count):
        wanted = deals * (number + 1) // count - deals * number // count
        chosen = np.lexsort((rng.random(len(classes)), owner_counts))[:wanted]
        owner_counts[chosen] += 1
        for place in chosen:
            owners[place].append(number)
    parts: list[list[Array]] = [[np.empty(0, np.int64)] for _ in range(count)]
    for each_class, numbers in zip(classes, owners, strict=True):
        indices = rng.permutation(np.flatnonzero(labels == each_class))
        for number, chosen in zip(numbers, np.array_split(indices, len(numbers)), strict=True):
            parts[number].append(chosen)
    return [np.concatenate(part) for part in parts]


def _deal_groups(groups: Array, count: int, column: str, rng: np.random.Generator) -> list[Array]:
    """Give each group to the part with the fewest samples, the largest group first; equal ones in random order."""
    import numpy as np

    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < count:
        raise Refused("too-small", field="--split", expected=f"at least {count} different values of {column} for "
                      f"{count} edges", got=str(len(sizes)), hint="Take fewer edges, or another column.")  # fmt: skip
    parts = [(0, number) for number in range(count)]
    owners = np.empty(len(sizes), np.int64)
    order = rng.permutation(len(sizes))
    for group in order[np.argsort(-sizes[order], kind="stable")].tolist():
        size, number = heapq.heappop(parts)
        owners[group] = number
        heapq.heappush(parts, (size + int(sizes[group]), number))
    if min(parts)[0] < MIN_SAMPLES:
        expected = f"at least {MIN_SAMPLES} samples for each of {count} edges"
        raise Refused("too-small", field="--split", expected=expected, hint="Take fewer edges.",
                      got=f"{min(parts)[0]} for one of them, by {column}")  # fmt: skip
    of_samples = owners[numbers.reshape(-1)]
    return [np.flatnonzero(of_samples == number) for number in range(count)]


def _fill_small(parts: list[Array]) -> list[Array]:
    """Return the parts, those that are too small filled with the last samples of the largest."""
    import numpy as np

    sizes = [len(part) for part in parts]
    largest = [(-size, number) for number, size in enumerate(sizes)]
    heapq.heapify(largest)
    given: dict[int, list[int]] = {number: [] for number, size in enumerate(sizes) if size < MIN_SAMPLES}
    for place, more in given.items():
        while sizes[place] + len(more) < MIN_SAMPLES:
            size, number = largest[0]
            sizes[number] -= 1
            more.append(int(parts[number][sizes[number]]))
            heapq.heapreplace(largest, (size + 1, number))
    return [np.concatenate([part[:size], np.array(given.get(number, ()), np.int64)])
            for number, (part, size) in enumerate(zip(parts, sizes, strict=True))]  # fmt: skip
