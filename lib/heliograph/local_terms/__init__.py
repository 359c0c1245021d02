"""Terms that algorithms of federated learning add to the local training: one file of this folder each.

A term corrects each gradient of the user's own loop before its optimizer takes a step. It knows arrays by name, and no
framework: ``heliograph.frameworks.steps`` finds the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.resources.base import Scalar
from heliograph.local_terms.base import Correction, LocalTerm, Trained
from heliograph.local_terms.ditto import DittoTerm
from heliograph.local_terms.feddyn import FedDynTerm
from heliograph.local_terms.fedprox import FedProxTerm
from heliograph.local_terms.personal_layers import FedBNTerm, FedPerTerm, FedRepTerm
from heliograph.local_terms.scaffold import ScaffoldTerm

__all__ = ["Correction", "LocalTerm", "Trained", "term_of"]

TERMS: dict[str, type[LocalTerm]] = {
    "Ditto": DittoTerm,
    "FedBN": FedBNTerm,
    "FedDyn": FedDynTerm,
    "FedPer": FedPerTerm,
    "FedProx": FedProxTerm,
    "FedRep": FedRepTerm,
    "SCAFFOLD": ScaffoldTerm,
}


def term_of(algorithm: str, parameters: Mapping[str, Scalar]) -> LocalTerm | None:
    """Return the term of an algorithm with a job's parameters; None where it adds none to the local training."""
    kind = TERMS.get(algorithm)
    return kind(parameters) if kind is not None else None
