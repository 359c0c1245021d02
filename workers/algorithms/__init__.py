"""Aggregation algorithms by name: one file of this folder each, and entry points of the group
``heliograph.algorithms`` in installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import Refused
from heliograph.workers.algorithms.base import (
    Algorithm,
    AlgorithmParameters,
    Combined,
    Decision,
    LeastUpdates,
    Piece,
    RoundFacts,
)
from heliograph.workers.algorithms.fedavg import FedAvg, FedAvgParameters, weighted_mean

__all__ = [
    "GROUP",
    "Algorithm",
    "AlgorithmParameters",
    "Combined",
    "Decision",
    "FedAvg",
    "FedAvgParameters",
    "LeastUpdates",
    "Piece",
    "RoundFacts",
    "choose",
    "schemas",
    "weighted_mean",
]

GROUP = "heliograph.algorithms"
BUILT_IN = {
    "Bulyan": "bulyan",
    "Ditto": "ditto",
    "FedAdagrad": "fedadagrad",
    "FedAdam": "fedadam",
    "FedAvg": "fedavg",
    "FedAvgM": "fedavgm",
    "FedBN": "fedbn",
    "FedDyn": "feddyn",
    "FedNova": "fednova",
    "FedPer": "fedper",
    "FedProx": "fedprox",
    "FedRep": "fedrep",
    "FedYogi": "fedyogi",
    "Krum": "krum",
    "Median": "median",
    "MultiKrum": "krum",
    "NormClipping": "norm_clipping",
    "QFedAvg": "qfedavg",
    "RFA": "rfa",
    "SCAFFOLD": "scaffold",
    "TrimmedMean": "trimmed_mean",
}
"""The module of this folder that holds the class of each algorithm; a worker imports the one that its job names."""


def schemas() -> tuple[dict[str, dict[str, Any]], list[Refused]]:
    """Return the JSON schema of each algorithm's parameters, by name, and an error for each that cannot be loaded."""
    found = {name: _built_in(name).schema() for name in BUILT_IN}
    failed: list[Refused] = []
    for name, point in _installed().items():
        try:
            found[name] = _load(point).schema()
        except Refused as error:
            failed.append(error)
    return found, failed


def choose(name: str, given: Mapping[str, Any]) -> Algorithm:
    """Return the algorithm of that name with these parameters; a parameter without a value takes its default.

    Raise Refused where there is no such algorithm or parameter, or where its package cannot be loaded.
    """
    if name in BUILT_IN:
        kind = _built_in(name)
    else:
        installed = _installed()
        if name not in installed:
            known = ", ".join(sorted({*BUILT_IN, *installed}))
            raise Refused("unknown-algorithm", field="aggregationAlgorithm", expected=f"one of {known}", got=name)
        kind = _load(installed[name])
    try:
        return kind(kind.Parameters.model_validate({key: value for key, value in given.items() if value is not None}))
    except ValidationError as error:
        raise refusal_of(error) from None


def _built_in(name: str) -> type[Algorithm]:
    found: type[Algorithm] = getattr(import_module(f"{__name__}.{BUILT_IN[name]}"), name)
    return found


def _installed() -> dict[str, EntryPoint]:
    """Return the entry points sorted by name, without those that bear a built-in algorithm's name."""
    found = {each.name: each for each in entry_points(group=GROUP) if each.name not in BUILT_IN}
    return dict(sorted(found.items()))


def _load(point: EntryPoint) -> type[Algorithm]:
    try:
        found = point.load()
    except Exception as error:  # code of another package: any error concerns this algorithm alone
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise _unusable(point, repr(found))
    return found


def _unusable(point: EntryPoint, got: str) -> Refused:
    return Refused("unusable-algorithm", field=f"{GROUP}: {point.name} = {point.value}",
                   expected="a class that derives from heliograph.workers.algorithms.Algorithm", got=got,
                   hint="Mend or uninstall the package that declares this entry point.")  # fmt: skip
