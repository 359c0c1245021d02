"""Aggregation algorithms by name. A new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import Refused
from heliograph.workers.algorithms.fedavg import FedAvgParameters, fedavg

if TYPE_CHECKING:
    import numpy as np

    Block = np.ndarray[Any, Any]
    Combine = Callable[[Sequence[Block], Sequence[float]], Block]

ALGORITHMS: dict[str, tuple[type[FedAvgParameters], Combine]] = {"FedAvg": (FedAvgParameters, fedavg)}


def schemas() -> dict[str, dict[str, Any]]:
    """Algorithm name to the JSON schema of its parameters, as an agent reports it."""
    return {name: parameters.model_json_schema() for name, (parameters, _) in ALGORITHMS.items()}


def choose(name: str, given: Mapping[str, Any]) -> tuple[FedAvgParameters, Combine]:
    """The algorithm of that name with its parameters; those without a value take their default.

    Raises Refused where there is no such algorithm or parameter.
    """
    if name not in ALGORITHMS:
        known = ", ".join(sorted(ALGORITHMS))
        raise Refused("unknown-algorithm", field="aggregationAlgorithm", expected=f"one of {known}", got=name)
    model, combine = ALGORITHMS[name]
    try:
        return model.model_validate({key: value for key, value in given.items() if value is not None}), combine
    except ValidationError as error:
        raise refusal_of(error) from None
