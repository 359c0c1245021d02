"""IBT, image-box-threshold, for detectors: hard where too few of an image's boxes are sure.

As Sedna has it:
https://github.com/kubeedge/sedna/blob/main/lib/sedna/algorithms/hard_example_mining/hard_example_mining.py
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from heliograph.inference.hard_samples.scores import Scores, listed


def ibt(
    scores: Scores,
    *,
    threshold_img: Annotated[
        float, Field(ge=0, le=1, description="Up to this share of sure boxes an image is hard.")
    ] = 0.5,
    threshold_box: Annotated[float, Field(ge=0, le=1, description="Above this confidence a box is sure.")] = 0.5,
    empty_is_hard: Annotated[bool, Field(description="Whether an image without any box is hard.")] = False,
) -> bool:
    """Whether the boxes with a confidence above ``threshold_box`` are at most the share ``threshold_img`` of all.

    Choices: an image without boxes is not hard, as with Sedna, since most of what a camera sees is empty; where misses
    matter more than traffic ``empty_is_hard`` says otherwise, whatever the thresholds. No scores (None), NaN, infinity
    or what is no list of numbers is hard, whatever the thresholds. One box is a share of 0 or 1.
    """
    return sure_share(scores, threshold_box=threshold_box, empty_is_hard=empty_is_hard) <= threshold_img


def sure_share(scores: Scores, *, threshold_box: float = 0.5, empty_is_hard: bool = False) -> float:
    """The share of boxes that are sure, 0 to 1; an infinity where the answer is fixed: minus is hard, plus is not."""
    found = listed(scores)
    if found is None:
        return -inf
    if not found:
        return -inf if empty_is_hard else inf
    return sum(each > threshold_box for each in found) / len(found)
