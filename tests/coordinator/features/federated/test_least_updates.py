"""What a job's algorithm needs is known when the job is created: parameters, and enough updates."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.resources.base import Parameter
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.features.federated.least_updates import check_least_updates
from heliograph.core.errors import Refused
from heliograph.workers.algorithms import schemas
from tests.coordinator.features.federated.test_state_machine import _task

OFFERED = schemas()[0]


def _job(algorithm: str, number: int, parameters: dict[str, Any], **spec: Any) -> Any:
    given = [{"key": key, "value": value} for key, value in parameters.items()]
    worker = {"aggregationAlgorithm": algorithm, "parameters": given}
    names = [f"edge-{at}" for at in range(number)]
    workers = [{"name": name, "nodeName": name, "workerSpec": {"trainScriptBootFile": "train.py"}} for name in names]
    return _task(aggregationWorker={"model": {"name": "m"}, "workerSpec": worker}, trainingWorkers=workers, **spec)


@pytest.mark.parametrize("algorithm, parameters, least", [
    ("Krum", {}, 5), ("Krum", {"byzantine": 2}, 7), ("MultiKrum", {"byzantine": 0}, 3), ("Bulyan", {"byzantine": 1}, 7),
    ("TrimmedMean", {"trimmed": 3}, 7), ("Median", {"byzantine": 1}, 3), ("RFA", {"byzantine": 2}, 5),
])  # fmt: skip
def test_a_job_with_too_few_edges_for_its_robust_rule_is_refused(
    algorithm: str, parameters: dict[str, Any], least: int
) -> None:
    check_least_updates(_job(algorithm, least, parameters), OFFERED[algorithm], "t")
    check_least_updates(_job(algorithm, least + 4, parameters, quorum=least), OFFERED[algorithm], "t")
    check_least_updates(_job(algorithm, 1, parameters, participants={"all": True}), OFFERED[algorithm], "t")
    for task, field, got in (
        (_job(algorithm, least - 1, parameters), "trainingWorkers", least - 1),
        (_job(algorithm, least + 4, parameters, participants={"count": least - 1}), "participants", least - 1),
        (_job(algorithm, least + 4, parameters, quorum=least - 1), "quorum", least - 1),
    ):
        with pytest.raises(Refused, match=rf"field spec\.{field}: expected at least {least}: {algorithm} .* got {got}"):
            check_least_updates(task, OFFERED[algorithm], "t")


def test_other_algorithms_need_one_update() -> None:
    for algorithm in ("FedAvg", "FedAdam", "SCAFFOLD", "NormClipping"):
        check_least_updates(_job(algorithm, 1, {}), OFFERED[algorithm], "t")


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    choice = NamedChoice("algorithm", "FedPer", "spec.name", [], "spec.parameters")
    missing = r"field spec\.parameters: expected parameter personal_layers, which FedPer needs"
    with pytest.raises(Refused, match=missing):
        check_offered(choice, OFFERED, "t")
    given = [Parameter(key="personal_layers", value="head.*")]
    check_offered(NamedChoice("algorithm", "FedPer", "spec.name", given, "spec.parameters"), OFFERED, "t")
