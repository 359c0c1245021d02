"""Router: a small classifier, trained on the edge's scores, says whether the cloud would do better.

The routing of Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data", ICLR 2025,
https://arxiv.org/abs/2406.18665, with the least of models: logistic regression on three features. Its weights are the
rule's parameters, so that they travel as any other rule's.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, inf
from typing import Annotated

from pydantic import Field

from heliograph.core.errors import Refused
from heliograph.inference.hard_samples.entropy import spread_of
from heliograph.inference.hard_samples.margin import lead_of
from heliograph.inference.hard_samples.scores import Scores, listed

RIDGE = 1e-3
"""Of the squared weights in ``fit``'s loss: with classes that a line can part they would grow without end."""
STEPS = 50
_MOST = 500.0
"""Beyond this the logistic function is 0 or 1."""


def router(
    scores: Scores,
    *,
    limit: Annotated[float, Field(ge=0, le=1, description="Hard above this chance that the cloud is needed.")] = 0.5,
    bias: Annotated[float, Field(description="Weight of the constant feature.")] = 8.0,
    best: Annotated[float, Field(description="Weight of the highest probability.")] = -10.0,
    margin: Annotated[float, Field(description="Weight of its lead over the second.")] = 0.0,
    entropy: Annotated[float, Field(description="Weight of the normalised entropy.")] = 0.0,
) -> bool:
    """Whether the cloud is needed with a chance above ``limit``, 1 / (1 + exp(-weights · features)).

    ``fit`` gives the weights; before, the defaults are the rule ``threshold`` at 0.8. Choices: what has no entropy is
    hard, whatever the limit: no scores at all, NaN, infinity, what is no list of numbers, negative ones, all zero.
    One class has its own value as lead and no entropy. Weights so large that their sum has no value are a chance of 1.
    """
    return chance(scores, bias=bias, best=best, margin=margin, entropy=entropy) > limit


def chance(
    scores: Scores, *, bias: float = 8.0, best: float = -10.0, margin: float = 0.0, entropy: float = 0.0
) -> float:
    """The chance that the cloud is needed, 0 to 1; infinity where the scores have no features."""
    found = features(scores)
    if found is None:
        return inf
    total = bias + best * found[0] + margin * found[1] + entropy * found[2]
    if total != total:
        return 1.0
    return 1 / (1 + exp(-max(-_MOST, min(_MOST, total))))


def features(scores: Scores) -> tuple[float, float, float] | None:
    """Highest probability, its lead over the second, normalised entropy; None where there is one that has no value."""
    found = listed(scores)
    third = spread_of(found)
    return None if not found or third == inf else (max(found), lead_of(found), third)


def fit(edge_scores: Iterable[Scores], edge_correct: Iterable[bool], cloud_correct: Iterable[bool]) -> dict[str, float]:
    """The router's weights from samples of which the right answer is known.

    Learned is where the cloud is right and the edge wrong: there alone a request to the cloud pays.

    Args:
        edge_scores: of each sample; those without features are left out, they are hard anyway.
        edge_correct, cloud_correct: whether each model is right, as many as there are scores.

    Returns:
        The parameters ``bias``, ``best``, ``margin`` and ``entropy``; ``limit`` is for tuning to find.

    Raises Refused where no sample has features, and where the numbers of samples differ.
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
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -_MOST, _MOST)))
        gradient = x.T @ (p - y) / len(y) + RIDGE * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return {name: float(w) for name, w in zip(("bias", "best", "margin", "entropy"), weights, strict=True)}
