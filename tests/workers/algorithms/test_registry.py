"""Algorithms by name, also those of packages outside Heliograph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.bus.contract.payloads import Offer
from heliograph.core.errors import Refused
from heliograph.workers.algorithms import BUILT_IN, FedAvg, FedAvgParameters, choose, schemas

Installed = Callable[..., Path]


def test_a_parameter_without_a_value_takes_its_default() -> None:
    algorithm = choose("FedAvg", {"local_epochs": 3, "batch_size": None})
    assert isinstance(algorithm, FedAvg)
    assert algorithm.parameters == FedAvgParameters(local_epochs=3)


def test_a_bad_parameter_is_refused_with_its_field() -> None:
    with pytest.raises(Refused, match=r"field aggregationAlgorithm: expected one of .* FedAvg, .*, got FedAvgg"):
        choose("FedAvgg", {})
    with pytest.raises(Refused, match="field local_epochs"):
        choose("FedAvg", {"local_epochs": 0})
    with pytest.raises(Refused, match="field epochs"):
        choose("FedAvg", {"epochs": 1})


def test_an_installed_package_offers_its_algorithms(installed_algorithms: Installed) -> None:
    installed_algorithms()
    assert choose("ToyMoments", {"server_rate": 0.1}).parameters.model_dump()["server_rate"] == 0.1
    with pytest.raises(Refused, match="field server_rate"):
        choose("ToyMoments", {"server_rate": 0})
    with pytest.raises(Refused, match=r"expected one of .*, ToyClusters, ToyMoments, .*, got ToyMoment"):
        choose("ToyMoment", {})
    found, failed = schemas()
    assert not failed
    assert "near" in found["ToyClusters"]["properties"]


def test_a_package_cannot_replace_a_built_in_algorithm(installed_algorithms: Installed) -> None:
    installed_algorithms(FedAvg="toy_algorithms:Moments")
    assert type(choose("FedAvg", {})) is FedAvg


def test_an_unusable_algorithm_concerns_itself_alone(installed_algorithms: Installed) -> None:
    place = installed_algorithms(Gone="toy_algorithms.nowhere:Nothing", Odd="toy_algorithms:NOT_AN_ALGORITHM")
    assert choose("ToyMoments", {})
    for name in ("Gone", "Odd"):
        with pytest.raises(Refused, match=r"expected a class that derives from .*Algorithm"):
            choose(name, {})
    script = [sys.executable, "-m", "heliograph.workers.offers"]
    done = subprocess.run(script, capture_output=True, check=True, text=True, env={"PYTHONPATH": str(place)})
    gone, odd, offer = done.stdout.splitlines()
    assert "Gone = toy_algorithms.nowhere:Nothing" in gone and "ModuleNotFoundError" in gone
    assert "Odd = toy_algorithms:NOT_AN_ALGORITHM" in odd
    assert {*BUILT_IN, "ToyMoments", "ToyClusters"} == set(Offer.model_validate_json(offer).algorithms)


def test_the_documentation_lists_every_built_in_algorithm_with_its_parameters() -> None:
    page = (Path(__file__).parents[3] / "docs" / "algorithms.md").read_text()
    rows = [row.split("|")[1:-1] for row in page.splitlines() if row.startswith("| `")]
    assert {row[0].strip(" `") for row in rows} == set(BUILT_IN)
