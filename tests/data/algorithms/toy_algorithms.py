"""Algorithms of an outside package, offered by entry points: one keeps moments on the server, another makes a model
for each edge, and two go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from heliograph.workers.algorithms import Algorithm, AlgorithmParameters, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms import weighted_mean as mean


class MomentsParameters(AlgorithmParameters):
    server_rate: float = Field(default=0.5, gt=0)


class Moments(Algorithm):
    """An algorithm like FedAdam: the mean change is a gradient; the server keeps its two moments and a step count."""

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
    """L2 distance below which two updates belong together."""
    far: float = Field(default=1e6, gt=0)
    """Distance from every other update beyond which an update is not counted."""


class Clusters(Algorithm):
    """An algorithm with a model for each edge: the mean of the updates near its own.

    Control variates travel up beside the weights, and their mean travels down.
    """

    Parameters = ClustersParameters
    measures = True
    beside = ("control",)
    down = ("control",)
    personal = True
    parameters: ClustersParameters

    def measure(self, piece: Piece) -> np.ndarray[Any, Any]:
        """Return the squared distances between all pairs of updates."""
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


class Diverging(Algorithm):
    """An algorithm whose third global model is not finite, in one value of its last piece."""

    def decide(self, facts: RoundFacts) -> Decision:
        return Decision(plan=facts.round)

    def combine(self, piece: Piece) -> Combined:
        model = mean(piece.updates, piece.weights)
        if piece.plan >= 3:
            model[-1] = np.nan
        return Combined(model)


class Failing(Algorithm):
    """An algorithm with a defect that shows in its second round."""

    def combine(self, piece: Piece) -> Combined:
        return Combined(mean(piece.updates, piece.weights))

    def decide(self, facts: RoundFacts) -> Decision:
        if facts.round >= 2:
            raise ZeroDivisionError("no edge left")
        return Decision()


NOT_AN_ALGORITHM = mean
