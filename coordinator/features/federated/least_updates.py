"""Whether a task can have the updates that its algorithm needs: a robust rule needs more, the more it tolerates. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.bus.contract.parameter_schema import LEAST_UPDATES
from heliograph.bus.contract.resources import FederatedTask
from heliograph.coordinator.api.parameters import values_of
from heliograph.core.errors import Refused


def check_least_updates(task: FederatedTask, schema: Mapping[str, Any], topic: str) -> None:
    """Raise Refused where no round of the task can have as many updates as its algorithm needs.

    Args:
        schema: the schema of the algorithm's parameters, as the node that aggregates offers it.
    """
    least = schema.get(LEAST_UPDATES)
    if least is None:
        return
    spec = task.spec
    algorithm, key = spec.aggregation_worker.worker_spec, least["parameter"]
    default = schema.get("properties", {}).get(key, {}).get("default", 0)
    value = values_of(algorithm.parameters).get(key, default)
    if not isinstance(value, int) or (needed := least["times"] * value + least["plus"]) <= 1:
        return
    name = algorithm.aggregation_algorithm
    rule = f"{name} needs {least['times']} × {key} + {least['plus']} updates"
    expected = f"at least {needed}: {rule}, and {key} is {value}"
    hint = f"Give the job more participants, or a smaller {key}."
    participants = ("spec.trainingWorkers", len(spec.training_workers))
    if spec.participants is not None:
        participants = ("spec.participants", spec.participants.count or needed)  # who {all: true} is, nobody knows yet
    for field, most in (participants, ("spec.quorum", spec.quorum or needed)):
        if most < needed:
            raise Refused("too-few-updates", topic=topic, field=field, expected=expected, got=most, hint=hint)
