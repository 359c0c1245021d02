"""Rounds with a lying edge, and with an algorithm that goes wrong, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.bus.traces.reading import TraceReader
from heliograph.simulations.scenario.play import RunRequest, play_virtual
from heliograph.simulations.scenario.scenario_files import parse_scenario

OFF = {"max_share": 1, "norm_factor": 0}


def _played(
    *, edges: int = 10, behaviour: str = "", job: dict[str, Any] | None = None, trace: Path | None = None, **fault: Any
) -> dict[str, Any]:
    """Play one job on so many edges, of which ``edge-1`` may lie. Return its outcome."""
    faults = [{"kind": "byzantine", "targets": ["edge-1"], "behaviour": behaviour, **fault}] if behaviour else []
    one = {"name": "one", "rounds": 15, "training": {"learning_rate": 0.3, "local_epochs": 3}} | (job or {})
    document = {"name": "x", "duration": 3600, "edges": [{"number": edges}], "data": {"set": "digits"},
                "jobs": [one], "faults": faults}  # fmt: skip
    outcome = play_virtual(RunRequest(parse_scenario(document), 5, trace))
    (found,) = outcome.jobs.values()
    return found.values()


def test_one_edge_that_claims_ninety_million_samples_no_longer_makes_the_model_alone() -> None:
    bounded, alone = _played(behaviour="outweigh"), _played(behaviour="outweigh", job={"parameters": OFF})
    assert bounded["phase"] == alone["phase"] == "Succeeded"
    assert alone["accuracy"] < 0.1
    assert bounded["accuracy"] > 0.7


def test_one_edge_that_scales_its_update_is_refused_without_a_bound_in_the_job() -> None:
    bounded = _played(behaviour="scale", amount=30)
    alone = _played(behaviour="scale", amount=30, job={"parameters": OFF})
    assert bounded["refused"] == 15
    assert bounded["accuracy"] > 0.9
    assert alone["accuracy"] < 0.2


@pytest.mark.parametrize("partition", ["iid", "by-label:2", "dirichlet:0.5", "by-size:1"])
def test_the_bounds_change_no_honest_round(partition: str, tmp_path: Path) -> None:
    models = []
    for parameters in ({}, OFF):
        path = tmp_path / f"{len(models)}.mcap"
        document = {"name": "x", "duration": 3600, "edges": [{"number": 10}],
                    "data": {"set": "digits", "partition": partition},
                    "jobs": [{"name": "one", "rounds": 10, "parameters": parameters,
                              "training": {"learning_rate": 0.3, "local_epochs": 3}}]}  # fmt: skip
        play_virtual(RunRequest(parse_scenario(document), 5, path))
        closed = _closed(path)
        assert not any(each.refused or each.capped for each in closed)
        models.append([(each.round, each.model, each.metrics) for each in closed])
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("algorithm", "round", "why"),
    [
        ("Diverging", 3, "expected finite values in the algorithm's result, got nan at element"),
        ("Failing", 2, "ZeroDivisionError (no edge left)"),
    ],
)
def test_a_round_without_a_finite_result_keeps_its_base_and_says_why(
    installed_algorithms: Any, tmp_path: Path, algorithm: str, round: int, why: str
) -> None:
    installed_algorithms(**{algorithm: f"toy_algorithms:{algorithm}"})
    path = tmp_path / "run.mcap"
    found = _played(edges=3, job={"algorithm": algorithm}, trace=path)
    assert found["phase"] == "Failed"
    closed = {each.round: each for each in _closed(path)}
    assert [number for number, each in closed.items() if not each.counted] == [round, round + 1, round + 2]
    for number in (round, round + 1, round + 2):
        assert closed[number].model == closed[round - 1].model  # the base is kept
        assert len(closed[number].refused) == 3
        assert all(f"because of algorithm {algorithm}" in each.reason and why in each.reason
                   for each in closed[number].refused)  # fmt: skip


def _closed(path: Path) -> list[Aggregation]:
    with TraceReader(path) as reader:
        messages = list(reader.messages(lambda address: AGGREGATION.match(address) is not None))
    return [AGGREGATION.validate(decode(each.body).data, each.topic) for each in messages]
