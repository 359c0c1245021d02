"""Two algorithms of somebody else's package, offered by entry points: moments that the server keeps, and a model for
each edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from heliograph.workers.algorithms import Algorithm, AlgorithmParameters, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms import weighted_mean as mean


class MomentsParameters(AlgorithmParameters):
    server_rate: float = Field(default=0.5, gt=0)


class Moments(Algorithm):
    """As FedAdam: the mean change is a gradient, of which the server keeps two moments and counts the steps."""

    Parameters = MomentsParameters
    needs_base = True
    state = ("m", "v")
    parameters: MomentsParameters

    def initial(self, kind: str) -> float:
        return 1e-6 if kind == "v" else 0.0

    def decide(self, facts: RoundFacts) -> Decision:
        step = int(facts.state.get("step", np.array(0))) + 1
        return Decision(plan=step, state={"step": np.array(step)})

    def combine(self, piece: Piece) -> Combined:
        assert piece.base is not None
        change = mean(piece.updates, piece.weights) - piece.base
        m = 0.9 * piece.state["m"] + 0.1 * change
        v = 0.99 * piece.state["v"] + 0.01 * change * change
        whole = m / (1 - 0.9**piece.plan)
        model = piece.base + self.parameters.server_rate * whole / (np.sqrt(v) + 1e-3)
        return Combined(model, state={"m": m, "v": v})


class ClustersParameters(AlgorithmParameters):
    near: float = Field(default=1.0, gt=0)
    """Two updates whose L2 distance is less belong together."""
    far: float = Field(default=1e6, gt=0)
    """An update that lies further from every other one is not counted."""


class Clusters(Algorithm):
    """Each edge's own model is the mean of the updates near its own. Control variates travel beside the weights, and
    their mean travels down."""

    Parameters = ClustersParameters
    measures = True
    beside = ("control",)
    down = ("control",)
    personal = True
    parameters: ClustersParameters

    def measure(self, piece: Piece) -> np.ndarray[Any, Any]:
        """The squared distances between all pairs of updates."""
        rows = [each.astype(np.float64) for each in piece.updates]
        return np.array([[np.dot(one - other, one - other) for other in rows] for one in rows])

    def decide(self, facts: RoundFacts) -> Decision:
        assert facts.measured is not None
        apart = np.sqrt(facts.measured)
        nearest = np.where(np.eye(len(apart), dtype=bool), np.inf, apart).min(axis=1)
        kept = (nearest <= self.parameters.far) | (len(apart) == 1)
        alone = {
            edge: f"its update lies {nearest[at]:g} from the nearest other one"
            for at, edge in enumerate(facts.edges)
            if not kept[at]
        }
        return Decision(
            excluded=alone,
            plan=(apart < self.parameters.near)[kept][:, kept],
            down={"counted": np.array(int(kept.sum()))},
        )

    def combine(self, piece: Piece) -> Combined:
        together = [np.mean([piece.updates[at] for at in np.flatnonzero(row)], axis=0) for row in piece.plan]
        control = mean(piece.beside["control"], piece.weights)
        return Combined(mean(piece.updates, piece.weights), down={"control": control}, personal=together)


NOT_AN_ALGORITHM = mean
