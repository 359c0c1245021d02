"""Replay: train on kept exemplars beside the new samples.

Chaudhry et al. 2019, "On tiny episodic memories in continual learning", https://arxiv.org/abs/1902.10486. The reservoir
(Vitter 1985, https://doi.org/10.1145/3147.3165) is kept by the hash of each sample, as a bottom-k sample (Cohen and
Kaplan 2007, https://doi.org/10.1145/1281100.1281133): it has the same distribution, needs no count of what has gone by,
does not depend on the order, and a sample that comes again after a crash changes nothing.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.samples import Samples, joined
from heliograph.incremental.strategies.strategy import Strategy

if TYPE_CHECKING:
    from heliograph.incremental.adapters import LearningAdapter
    from heliograph.incremental.memory import Memory

Array = np.ndarray[Any, Any]


class Replay(Strategy):
    """Keep ``size`` exemplars, drawn evenly from all samples so far.

    Args:
        size: number of exemplars.
        by_class: give each class the same share, so that a rare class keeps exemplars; else each sample has the same
            chance.
        seed: another seed draws other exemplars.

    Raises:
        Refused: if the size is no whole number from 1.
    """

    keeps_classes: ClassVar[bool] = True
    keeps_samples: ClassVar[bool] = True

    def __init__(self, size: int = 1000, *, by_class: bool = True, seed: int = 0) -> None:
        self.size = size_of(size)
        self.by_class = by_class
        self.seed = seed

    def finish(self, model: LearningAdapter, new: Samples, memory: Memory, rng: np.random.Generator) -> Memory:
        known = [memory.samples] if memory.samples is not None else []
        return memory.with_samples(reservoir(joined([*known, new]), self.size, by_class=self.by_class, seed=self.seed))


def reservoir(samples: Samples, size: int, *, by_class: bool = False, seed: int = 0) -> Samples:
    """Return the samples of the lowest hashes, in their order.

    Of a reservoir and further samples this is the reservoir of all that either has been made of.
    """
    rank = np.argsort(_keys(samples.id, seed), kind="stable")
    if not by_class:
        return samples[rank[:size]]
    shares = share_of_each(dict(zip(*_counted(samples.y), strict=True)), size)
    chosen = [rank[samples.y[rank] == each][:count] for each, count in shares.items()]
    return samples[np.concatenate(chosen)] if chosen else samples[:0]


def share_of_each(counts: dict[int, int], size: int) -> dict[int, int]:
    """Return how many exemplars each class keeps: the same number, but no more than it has, and all of ``size``."""
    shares = dict.fromkeys(sorted(counts), 0)
    left, open_classes = size, sorted(counts)
    while left and open_classes:
        each_gets = max(1, left // len(open_classes))
        for name in open_classes:
            more = min(each_gets, counts[name] - shares[name], left)
            shares[name] += more
            left -= more
        open_classes = [name for name in open_classes if shares[name] < counts[name]]
    return shares


def size_of(size: Any) -> int:
    """Return a number of exemplars. Raise Refused where it is no whole number from 1."""
    try:
        count = operator.index(size)
    except TypeError:
        count = 0
    if count < 1 or isinstance(size, bool):
        raise Refused("bad-argument", field="size", expected="a number of exemplars, 1 or more", got=size)
    return count


def _counted(y: Array) -> tuple[list[int], list[int]]:
    classes, counts = np.unique(y, return_counts=True)
    return classes.tolist(), counts.tolist()


def _keys(ids: Array, seed: int) -> Array:
    """Return a number of each sample, evenly spread: eight bytes of its SHA-256, mixed with the seed."""
    own = np.ascontiguousarray(ids[:, 8:16]).view("<u8").reshape(-1)
    odd = np.uint64((2 * seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
    return own * odd  # an odd factor permutes the numbers of 64 bits
