"""The frame of FedAdagrad, FedAdam and FedYogi: adaptive steps of the server along the mean change.

    m ← β₁m + (1 - β₁)Δ        v ← (each algorithm's own)        w ← w + ηm / (√v + τ)        v₀ = τ²

Δ is the weighted mean of the updates' changes. The paper has no bias correction, unlike Adam for one machine:
``bias_correction`` divides m by 1 - β₁ᵗ and v by 1 - β₂ᵗ in round t, as Adam does.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, https://arxiv.org/abs/2003.00295, algorithm 2
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from heliograph.workers.algorithms.base import Algorithm, Combined, Decision, Piece, RoundFacts
from heliograph.workers.algorithms.differences import base_of, mean_change
from heliograph.workers.algorithms.fedavg import FedAvgParameters

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class AdaptiveParameters(FedAvgParameters):
    """Parameters of an adaptive server.

    Attributes:
        server_learning_rate: the paper's η.
        beta_1: decay of the first moment.
        tau: the paper's τ, the degree of adaptivity: a larger one makes steps more alike.
    """

    server_learning_rate: Annotated[float, Field(gt=0)] = 0.01
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    tau: Annotated[float, Field(gt=0)] = 1e-3


class SecondMomentParameters(AdaptiveParameters):
    """Parameters of an adaptive server whose second moment decays.

    Attributes:
        beta_2: decay of the second moment.
        bias_correction: whether moments are divided by their part that has been seen, as Adam does; not in the paper.
    """

    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    bias_correction: bool = False


class Adaptive(Algorithm):
    """An adaptive server; the state is the moments ``m`` and ``v``, and the number of rounds."""

    Parameters: ClassVar[type[AdaptiveParameters]] = AdaptiveParameters
    needs_base = True
    state = ("m", "v")
    parameters: AdaptiveParameters

    def initial(self, kind: str) -> float:
        return self.parameters.tau**2 if kind == "v" else 0.0

    def decide(self, facts: RoundFacts) -> Decision:
        import numpy as np

        step = int(facts.state.get("step", 0)) + 1
        return Decision(plan=step, state={"step": np.array(step)})

    @abstractmethod
    def second_moment(self, before: Array, squares: Array) -> Array:
        """Return v from the one before and the squares of the mean change."""

    def corrections(self, step: int) -> tuple[float, float]:
        """Return what m and v are divided by in the step of that number, from 1."""
        return 1.0, 1.0

    def combine(self, piece: Piece) -> Combined:
        import numpy as np

        given = self.parameters
        change = mean_change(piece)
        number = piece.state["m"].dtype.type
        m = number(given.beta_1) * piece.state["m"] + number(1 - given.beta_1) * change
        v = self.second_moment(piece.state["v"], np.square(change))
        of_m, of_v = self.corrections(piece.plan)
        step = m / number(of_m) / (np.sqrt(v / number(of_v)) + number(given.tau))
        return Combined(base_of(piece) + number(given.server_learning_rate) * step, state={"m": m, "v": v})


class WithSecondMoment(Adaptive):
    """An adaptive server whose second moment decays by β₂."""

    Parameters = SecondMomentParameters
    parameters: SecondMomentParameters

    def corrections(self, step: int) -> tuple[float, float]:
        given = self.parameters
        return (1 - given.beta_1**step, 1 - given.beta_2**step) if given.bias_correction else (1.0, 1.0)
