"""Sample selection: find the samples of a public data set whose embeddings lie nearest to the user's few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
BLOCK = 4 * 1024 * 1024
"""Distances computed at a time: 32 MB of float64."""


@dataclass(frozen=True)
class Nearest:
    """The selected samples of the public data set, nearest first.

    Attributes:
        indices: their indices in the public data set, int64, shape (selected,); equal distances keep the data set's
            order.
        distances: distance of each to the nearest of the user's samples, float64, shape (selected,).
        to: index of that nearest sample, int64, shape (selected,); enlarge its class by the public sample.
    """

    indices: Array
    distances: Array
    to: Array


def nearest(
    own: Array,
    public: Array,
    count: int,
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    block: int = BLOCK,
) -> Nearest:
    """Select the ``count`` samples of a public data set that lie nearest to any of the user's, or all if fewer.

    Memory does not grow with the public data set, which may be mapped from a file
    (``numpy.load(file, mmap_mode="r")``): each block of it is read once.

    Args:
        own, public: embeddings, numbers, samples × dimensions. A public sample whose embedding or distance is not
            finite is never selected.
        count: number of samples to select, 0 or more.
        metric: ``euclidean``, or ``cosine``: 1 minus the cosine of the angle, 0 to 2. A public embedding of zeros alone
            has no direction and is never selected by ``cosine``.
        block: number of distances computed at a time.

    Raises:
        Refused: if a shape, a type or ``count`` does not fit, or ``own`` has no sample, a number that is not finite, or
            by ``cosine`` an embedding without direction.
    """
    own = _embeddings(own, "own")
    public = _embeddings(public, "public", own.shape[1])
    if count < 0:
        raise Refused("invalid", field="count", expected="a number from 0", got=count)
    prepare = _directions if metric == "cosine" else _floats
    anchors = prepare(own)
    wrong = np.flatnonzero(~np.isfinite(anchors).all(1))
    if not len(anchors) or len(wrong):
        got = f"no finite numbers or no direction in sample {wrong[0]}" if len(wrong) else "no sample"
        raise Refused("no-samples", field="own", expected="at least one embedding, all of them finite", got=got)
    rows = max(1, block // max(len(own), own.shape[1]))
    found = Nearest(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    for start in range(0, len(public), rows):
        found = _merged(found, prepare(public[start : start + rows]), anchors, start, count)
    distances = found.distances / 2 if metric == "cosine" else np.sqrt(found.distances)
    return Nearest(found.indices, distances, found.to)


def _merged(found: Nearest, part: Array, anchors: Array, start: int, count: int) -> Nearest:
    """Merge one block into the nearest samples so far; ``distances`` are squared."""
    with np.errstate(invalid="ignore", over="ignore"):
        # Find the nearest by |a - b|² without |a|², which is the same for all b: fast, and accurate enough near the
        # origin. Then compute its distance directly, so that equal distances are equal in every block.
        centre = anchors.mean(0)
        near = anchors - centre
        to = ((near**2).sum(1) - 2 * (part - centre) @ near.T).argmin(1)
        squared = ((part - anchors[to]) ** 2).sum(1)
    kept = np.flatnonzero(np.isfinite(squared))
    indices = np.concatenate([found.indices, start + kept])
    distances = np.concatenate([found.distances, squared[kept]])
    order = np.lexsort((indices, distances))[:count]
    return Nearest(indices[order], distances[order], np.concatenate([found.to, to[kept]])[order])


def _floats(embeddings: Array) -> Array:
    return np.asarray(embeddings, np.float64)


def _directions(embeddings: Array) -> Array:
    """Scale embeddings to length 1: half the squared distance is then 1 minus the cosine; zeros become NaN."""
    found = _floats(embeddings)
    with np.errstate(invalid="ignore"):
        found = found / np.abs(found).max(1, keepdims=True)  # scaled first, since squares may overflow
        directions: Array = found / np.sqrt((found**2).sum(1, keepdims=True))
    return directions


def _embeddings(array: Array, name: str, dimensions: int | None = None) -> Array:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or dimensions not in (None, array.shape[1]):
        wanted = "dimensions" if dimensions is None else str(dimensions)
        raise Refused("bad-shape", field=name, expected=f"numbers, samples × {wanted}",
                      got=f"{array.dtype} of shape {array.shape}")  # fmt: skip
    return array
