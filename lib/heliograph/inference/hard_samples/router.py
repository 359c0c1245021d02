"""Router: a small classifier, trained on the edge's scores, predicts whether the cloud would do better.

The routing follows Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", ICLR 2025,
https://arxiv.org/abs/2406.18665, with a minimal model: logistic regression on three features. Its weights are the
rule's parameters, so they travel like any other rule's.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, inf
from typing import Annotated

from pydantic import Field

from heliograph.core.errors import Refused
from heliograph.inference.hard_samples.entropy import spread_of
from heliograph.inference.hard_samples.margin import lead_of
from heliograph.inference.hard_samples.scores import Scores, as_list

RIDGE = 1e-3
"""Penalty on the squared weights in ``fit``'s loss: for linearly separable classes they would grow for ever."""
STEPS = 50
_SATURATION = 500.0
"""Argument beyond which the logistic function is 0 or 1."""


def router(
    scores: Scores,
    *,
    limit: Annotated[
        float, Field(ge=0, le=1, description="A sample is hard above this probability that the cloud is needed.")
    ] = 0.5,
    bias: Annotated[float, Field(description="Weight of the constant feature.")] = 8.0,
    best: Annotated[float, Field(description="Weight of the highest probability.")] = -10.0,
    margin: Annotated[float, Field(description="Weight of its lead over the second.")] = 0.0,
    entropy: Annotated[float, Field(description="Weight of the normalised entropy.")] = 0.0,
) -> bool:
    """Return whether the probability that the cloud is needed, 1 / (1 + exp(-weights · features)), is above ``limit``.

    ``fit`` gives the weights; the default weights equal the rule ``threshold`` at 0.8. Unreadable scores (see
    ``as_list``), an empty list, negative scores and zeros alone have no entropy and are hard at every limit. One class
    has its own score as lead and the entropy 0. Weights whose sum is not a number count as the probability 1.
    """
    return chance(scores, bias=bias, best=best, margin=margin, entropy=entropy) > limit


def chance(
    scores: Scores, *, bias: float = 8.0, best: float = -10.0, margin: float = 0.0, entropy: float = 0.0
) -> float:
    """Return the probability that the cloud is needed, 0 to 1; infinity if the scores have no features."""
    found = features(scores)
    if found is None:
        return inf
    total = bias + best * found[0] + margin * found[1] + entropy * found[2]
    if total != total:
        return 1.0
    return 1 / (1 + exp(-max(-_SATURATION, min(_SATURATION, total))))


def features(scores: Scores) -> tuple[float, float, float] | None:
    """Return the highest probability, its lead over the second and the normalised entropy; None if one is undefined."""
    found = as_list(scores)
    third = spread_of(found)
    return None if not found or third == inf else (max(found), lead_of(found), third)


def fit(edge_scores: Iterable[Scores], edge_correct: Iterable[bool], cloud_correct: Iterable[bool]) -> dict[str, float]:
    """Fit the router's weights on labelled samples, by Newton's method.

    The target is "the cloud is right and the edge is wrong": only then does a request to the cloud pay.

    Args:
        edge_scores: the edge's scores of each sample; samples without features are skipped, they are hard anyway.
        edge_correct, cloud_correct: whether each model is right, one bool for each sample.

    Returns:
        The parameters ``bias``, ``best``, ``margin`` and ``entropy``; tuning finds ``limit``.

    Raises:
        Refused: if no sample has features, or the numbers of samples differ.
    """
    import numpy as np

    rows = [features(scores) for scores in edge_scores]
    needed = np.asarray(list(cloud_correct), bool)
    mistaken = ~np.asarray(list(edge_correct), bool)
    if not len(rows) == len(needed) == len(mistaken):
        raise Refused("bad-shape", field="cloud_correct", expected=f"{len(rows)} values, one for each of edge_scores",
                      got=f"edge_correct with {len(mistaken)}, cloud_correct with {len(needed)}")  # fmt: skip
    kept = np.array([row is not None for row in rows], bool)
    if not kept.any():
        raise Refused("no-samples", field="edge_scores", expected="probabilities of at least one sample",
                      got=f"{len(rows)} without", hint="Give softmax outputs, not logits.")  # fmt: skip
    x = np.array([(1.0, *row) for row in rows if row is not None])
    y = (needed & mistaken)[kept].astype(float)
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):  # Newton's method on the logistic loss
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -_SATURATION, _SATURATION)))
        gradient = x.T @ (p - y) / len(y) + RIDGE * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return {name: float(w) for name, w in zip(("bias", "best", "margin", "entropy"), weights, strict=True)}
