"""Put a version into a model that serves: arrays into a script's own model, or a file that a runtime has opened."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from heliograph.core.errors import Refused
from heliograph.incremental.growth import load_grown
from heliograph.inference.formats import OpenedModel
from heliograph.inference.predictors.whole_model import WholeModel

Weights = Mapping[str, Any] | OpenedModel
"""A version: its arrays by name, or the whole model."""


def load_version(model: object, weights: Weights) -> None:
    """Let a model answer with a version. Raise Refused where it does not fit; the model then stays as it was."""
    if isinstance(model, WholeModel) != isinstance(weights, OpenedModel):
        raise Refused("bad-weights", field="model", expected="a version of what the worker serves",
                      got=type(weights).__name__)  # fmt: skip
    if isinstance(model, WholeModel):
        assert isinstance(weights, OpenedModel)
        model.use(weights)
    else:
        assert not isinstance(weights, OpenedModel)
        load_grown(model, weights)


def copy_with(model: object, weights: Weights) -> object:
    """Return a copy of a model that answers with a version. Raise Refused where it does not fit."""
    other = WholeModel(model.output) if isinstance(model, WholeModel) else copy.deepcopy(model)
    load_version(other, weights)
    return other
