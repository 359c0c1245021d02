"""IBT, image-box-threshold, for detectors: an image is hard if too few of its boxes are confident.

The rule follows Sedna's:
https://github.com/kubeedge/sedna/blob/main/lib/sedna/algorithms/hard_example_mining/hard_example_mining.py
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, as_list


def ibt(
    scores: Scores,
    *,
    threshold_img: Annotated[
        float, Field(ge=0, le=1, description="An image is hard up to this share of confident boxes.")
    ] = 0.5,
    threshold_box: Annotated[float, Field(ge=0, le=1, description="A box is confident above this confidence.")] = 0.5,
    empty_is_hard: Annotated[bool, Field(description="Whether an image without boxes is hard.")] = False,
) -> bool:
    """Return whether the share of boxes with a confidence above ``threshold_box`` is at most ``threshold_img``.

    An image without boxes is not hard, as in Sedna, since most of a camera's images are empty; ``empty_is_hard`` makes
    it hard, for uses where misses cost more than traffic. Unreadable scores (see ``as_list``) are hard at all
    thresholds. The share of one box is 0 or 1.
    """
    return sure_share(scores, threshold_box=threshold_box, empty_is_hard=empty_is_hard) <= threshold_img


def sure_share(scores: Scores, *, threshold_box: float = 0.5, empty_is_hard: bool = False) -> float:
    """Return the share of confident boxes, 0 to 1; -infinity where always hard, +infinity where never hard."""
    found = as_list(scores)
    if found is None:
        return -inf
    if not found:
        return -inf if empty_is_hard else inf
    return sum(each > threshold_box for each in found) / len(found)
