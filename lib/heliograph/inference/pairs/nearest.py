"""Sample selection: from a public data set those samples that lie nearest to the user's few, by their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
BLOCK = 4 * 1024 * 1024
"""Distances that are held at a time: 32 MB."""


@dataclass(frozen=True)
class Nearest:
    """Samples of the public data set, the nearest first.

    Attributes:
        indices: their places in it, 1-D; of equally near ones the first.
        distances: of each to the nearest of the user's.
        to: which of the user's that is; enlarge its class by this sample.
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
    """The ``count`` samples of a public data set that lie nearest to any of the user's; all where there are fewer.

    The memory needed does not grow with the data set, which may be mapped from a file
    (``numpy.load(file, mmap_mode="r")``): it is read once, in blocks.

    Args:
        own, public: embeddings, samples × dimensions. A public one that is not finite, or whose distance is not, is
            never chosen.
        metric: ``cosine`` is the distance between directions, 1 less their cosine, 0 to 2. An embedding that is all
            zero has no direction: of the public ones it is never chosen.
        block: distances that are held at a time.

    Raises Refused where shapes do not fit, and where the user's embeddings are not finite, have no direction, or are
    none.
    """
    own = _embeddings(own, "own")
    public = _embeddings(public, "public", own.shape[1])
    if count < 0:
        raise Refused("invalid", field="count", expected="a number from 0", got=count)
    prepare = _directions if metric == "cosine" else _floats
    anchors = prepare(own)
    wrong = np.flatnonzero(~np.isfinite(anchors).all(1))
    if not len(anchors) or len(wrong):
        got = f"what has no finite numbers or direction, sample {wrong[0]}" if len(wrong) else "no sample"
        raise Refused("no-samples", field="own", expected="at least one embedding, all of them finite", got=got)
    rows = max(1, block // max(len(own), own.shape[1]))
    found = Nearest(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    for start in range(0, len(public), rows):
        found = _merged(found, prepare(public[start : start + rows]), anchors, start, count)
    distances = found.distances / 2 if metric == "cosine" else np.sqrt(found.distances)
    return Nearest(found.indices, distances, found.to)


def _merged(found: Nearest, part: Array, anchors: Array, start: int, count: int) -> Nearest:
    """The nearest so far and those of one block; ``distances`` are squared."""
    with np.errstate(invalid="ignore", over="ignore"):
        # |a - b|² without |a|², which is the same for all b: quick, and, near the origin, good enough to say which is
        # the nearest; its distance is then taken the long way, so that equals are equal in every block
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
    """Of length 1, so that half the squared distance is 1 less the cosine; NaN where there is none."""
    found = _floats(embeddings)
    with np.errstate(invalid="ignore"):
        found = found / np.abs(found).max(1, keepdims=True)  # first, lest the squares overflow
        directions: Array = found / np.sqrt((found**2).sum(1, keepdims=True))
    return directions


def _embeddings(array: Array, name: str, dimensions: int | None = None) -> Array:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or dimensions not in (None, array.shape[1]):
        wanted = "dimensions" if dimensions is None else str(dimensions)
        raise Refused("bad-shape", field=name, expected=f"numbers, samples × {wanted}",
                      got=f"{array.dtype} of shape {array.shape}")  # fmt: skip
    return array
