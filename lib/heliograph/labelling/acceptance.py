"""Acceptance of a big model's predictions: the confidence above which held-out labels show them right often enough.

The bar is found by a fixed sequence of exact binomial tests, from the highest confidence down, which ends at the first
test that fails: the bar's precision holds with the stated confidence, however many tests were made (Angelopoulos et
al., "Learn then Test", 2021, https://arxiv.org/abs/2110.01052).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import accumulate

from heliograph.bus.contract.resources.label_queue import Proposals

_TESTS = 64
"""Tests of one sequence, at most."""


def is_held_out(task: str, share: float) -> bool:
    """Return whether people label a task whatever the model says. The task's digest decides, the same everywhere."""
    drawn = hashlib.sha256(f"held-out/{task}".encode()).digest()
    return int.from_bytes(drawn[:8]) < share * 2**64


def bar_of(known: Iterable[tuple[float, bool]], proposals: Proposals) -> float | None:
    """Return the lowest confidence from which predictions are accepted; None where the labels do not carry any.

    Args:
        known: confidence of each prediction of a held-out task, and whether it was right.
    """
    ordered = sorted(known, key=lambda each: -each[0])
    if len(ordered) < proposals.least_labels:
        return None
    right = list(accumulate(correct for _, correct in ordered))
    # fewer labels than this do not carry the precision even where all are right
    first = math.ceil(math.log(1 - proposals.confidence) / math.log(proposals.precision))
    step = max(1, (len(ordered) - first) // _TESTS)
    bar = None
    for count in range(first, len(ordered) + 1, step):
        if _tail(count, int(right[count - 1]), proposals.precision) > 1 - proposals.confidence:
            break
        bar = ordered[count - 1][0]
    return bar


def _tail(count: int, successes: int, chance: float) -> float:
    """Return the probability of at least that many successes in ``count`` trials."""
    one, other = math.log(chance), math.log1p(-chance)
    logs = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * one + (count - k) * other
            for k in range(successes, count + 1)]  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
