"""Scores from a user's model of any framework: one row of class scores for each sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
Scorer = Callable[[Array], Any]
"""A function from a batch (samples × ...) to one row of scores for each sample."""


def scorer_for(model: object, field: str = "model") -> Scorer:
    """Return the scorer of a model.

    Args:
        model: a torch.nn.Module or Keras model (logits become probabilities), an estimator with ``predict_proba``, or
            a callable that takes a batch and returns one row of scores for each sample.
        field: name of the argument, for the error.

    Raises:
        Refused: for any other model.
    """
    family = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if ("keras", "Model") in family:
        return lambda batch: probabilities(np.asarray(model(batch, training=False)))  # type: ignore[operator]
    if ("torch", "Module") in family:
        return _torch_scorer(model)
    if hasattr(model, "predict_proba"):
        return lambda batch: model.predict_proba(batch.reshape(len(batch), -1))
    if callable(model):
        return model
    raise Refused(
        "bad-model", field=field, expected="a torch.nn.Module, a Keras model, an estimator with predict_proba, or a "
        "function of a batch", got=f"{type(model).__module__}.{type(model).__qualname__}",
    )  # fmt: skip


def probabilities(rows: Array) -> Array:
    """Return rows of logits as probabilities, samples × classes; rows of probabilities come back unchanged."""
    if rows.ndim < 2 or rows.shape[-1] < 2:
        return rows
    if rows.min(initial=0) >= 0 and np.allclose(rows.sum(-1), 1, atol=1e-3):
        return rows
    shifted = np.exp(rows - rows.max(-1, keepdims=True))
    softmax: Array = shifted / shifted.sum(-1, keepdims=True)
    return softmax


def best_class(scores: Any) -> Any:
    """Return the index of the highest score of a 1-D array; return any other scores unchanged."""
    return int(np.argmax(scores)) if isinstance(scores, np.ndarray) and scores.ndim == 1 and scores.size else scores


def _torch_scorer(model: Any) -> Scorer:
    def score(batch: Array) -> Array:
        import torch

        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            found = model(torch.from_numpy(np.array(batch)).to(device))
        return probabilities(found.float().cpu().numpy())

    model.eval()
    return score
