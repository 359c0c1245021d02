"""The aggregation algorithm as a class: its parameters, its inputs and its results.

The aggregation worker walks through the model block by block and hands the algorithm one ``Piece`` after the other:
the same elements of every update. An algorithm knows neither files, brokers nor restarts; the same pieces give the same
bits, in whatever order the updates came.

Round 0 asks the participants for a model's initial weights. Their weighted mean becomes the first global model, and
the algorithm begins with round 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from heliograph.bus.contract.parameter_schema import KEEPS_EDGE_STATE, LEAST_UPDATES, LOCAL_TERM, NEEDS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class AlgorithmParameters(BaseModel):
    """Parameters that every algorithm has.

    Attributes:
        min_node_number: updates that a round needs to close, at least.
        rounds_between_validations: rounds from one evaluation of the global model to the next.
        norm_bound: largest L2 distance of an update from its base model.
        norm_factor: largest L2 distance of an update from its base model, in multiples of the median of its round;
            0 for none. It refuses no update that moved less than a tenth of the base's norm, and none of fewer than
            three updates.
        max_share: largest share of one participant in the weight of a round, by the number of its samples. Without it
            1.25 / √n among n ≥ 3 counted updates, and not below a quarter; 1 for no bound.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    min_node_number: Annotated[int, Field(ge=1)] = 1
    rounds_between_validations: Annotated[int, Field(ge=1)] = 1
    norm_bound: Annotated[float, Field(gt=0)] | None = None
    norm_factor: Annotated[float, Field(ge=0)] = 10.0
    max_share: Annotated[float, Field(gt=0, le=1)] | None = None


@dataclass(frozen=True)
class LeastUpdates:
    """The updates that a round needs, at least: ``times`` the value of a parameter, and ``plus``."""

    parameter: str
    times: int
    plus: int

    def of(self, parameters: AlgorithmParameters) -> int:
        """Return the number for a job's parameters."""
        return self.times * self.wanted(parameters) + self.plus

    def wanted(self, parameters: AlgorithmParameters) -> int:
        """Return the parameter's value."""
        return int(getattr(parameters, self.parameter))

    def allowed(self, updates: int) -> int:
        """Return the largest value of the parameter that so many updates allow; negative where there are too few."""
        return (updates - self.plus) // self.times


@dataclass(frozen=True)
class RoundFacts:
    """One round, before its updates are combined. Sequences follow the edges' names, sorted.

    Attributes:
        round: its number, from 1.
        asked: how many edges were asked for an update.
        edges_of_job: how many edges train in the job, asked in this round or not.
        refused: how many edges' updates have failed a check in this round.
        num_samples: as each edge reported it with its update, at most its largest share (``max_share``).
        metrics: as each edge reported them with its update.
        measured: sum of ``measure`` over all pieces; None where the algorithm does not measure.
        state: whole arrays from the ``Decision`` of the round before; empty at first.
    """

    round: int
    asked: int
    edges: tuple[str, ...]
    num_samples: tuple[float, ...]
    metrics: tuple[Mapping[str, float], ...]
    measured: Array | None
    state: Mapping[str, Array]
    edges_of_job: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Decision:
    """An algorithm's decision on a round, from its facts.

    Attributes:
        excluded: edges whose update is not counted, each with the reason; the pieces come without them.
        weights: weights of the remaining edges, summing to 1; by default their shares of the samples.
        plan: handed to ``combine`` with every piece.
        state: whole arrays for the next round's facts, such as a counter of steps or an adaptive bound; their names
            hold no colon.
        down: whole arrays that travel down beside the model, named likewise.
    """

    excluded: Mapping[str, str] = field(default_factory=dict)
    weights: Sequence[float] | None = None
    plan: Any = None
    state: Mapping[str, Array] = field(default_factory=dict)
    down: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """The same elements of one floating-point tensor in every update, all flat and of one length.

    F16 and BF16 come widened to float32; the result is rounded once.

    Attributes:
        tensor: its name.
        updates: elements of each update, in the order of ``edges``; ``combine`` may overwrite them.
        weights: weights of the edges, summing to 1.
        base: elements of the updates' base model; None unless the algorithm ``needs_base``.
        beside: by kind, elements of the tensors that travel beside the weights, in the order of ``edges``.
        state: by kind, elements of the state from the round before.
        plan: the ``Decision``'s plan; None while the updates are measured.
    """

    tensor: str
    edges: Sequence[str]
    updates: list[Array]
    weights: Sequence[float]
    base: Array | None = None
    beside: Mapping[str, list[Array]] = field(default_factory=dict)
    state: Mapping[str, Array] = field(default_factory=dict)
    plan: Any = None


@dataclass(frozen=True, slots=True)
class Combined:
    """The result of combining one piece.

    Attributes:
        model: elements of the global model.
        state: by kind, elements of the state for the next round.
        down: by kind, elements that travel down beside the model.
        personal: elements of each edge's own model, in the order of ``Piece.edges``.
    """

    model: Array
    state: Mapping[str, Array] = field(default_factory=dict)
    down: Mapping[str, Array] = field(default_factory=dict)
    personal: Sequence[Array] = ()


class Algorithm(ABC):
    """One aggregation algorithm with a job's parameters.

    A package offers one by an entry point of the group ``heliograph.algorithms``, named as jobs name the algorithm.
    Several threads combine pieces at the same time: methods must not change ``self``.

    Attributes:
        Parameters: model of the parameters; agents report its JSON schema, and jobs are checked against it.
        needs_base: whether pieces carry the base model.
        measures: whether ``measure`` gets every piece before ``decide`` is called.
        beside: kinds of tensors that each update carries besides its weights: for each floating-point tensor ``w``
            one of the same shape, ``<kind>:w``, in the same file.
        state: kinds of tensors that are kept between rounds, each as large as the model's floating-point tensors:
            float64 for F64, else float32.
        down: kinds of tensors that travel down beside the model, laid out as those of the state.
        personal: whether ``combine`` returns a model for each edge as well.
        combines_buffers: whether ``combine`` gets floating-point buffers too, such as the running means of a batch
            norm. Otherwise they become the weighted mean: they are statistics, which no step of an optimizer or a
            control variate may move.
        needs: what participants have to measure (``parameter_schema.MEASURES``), each a metric of their updates.
        local_term: name of the term that participants add to their local training (``heliograph.local_terms``).
        keeps_edge_state: whether that term keeps arrays on each edge: what an edge has kept with its last counted
            update is valid, and nothing else.
        least_updates: the updates that a round needs, where that depends on a parameter.
    """

    Parameters: ClassVar[type[AlgorithmParameters]] = AlgorithmParameters
    needs_base: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    beside: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()
    down: ClassVar[tuple[str, ...]] = ()
    personal: ClassVar[bool] = False
    combines_buffers: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    local_term: ClassVar[str] = ""
    keeps_edge_state: ClassVar[bool] = False
    least_updates: ClassVar[LeastUpdates | None] = None

    def __init__(self, parameters: AlgorithmParameters) -> None:
        self.parameters = parameters

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the parameters, with what else a job has to know of the algorithm."""
        more: dict[str, Any] = {}
        if cls.least_updates is not None:
            more[LEAST_UPDATES] = asdict(cls.least_updates)
        if cls.needs:
            more[NEEDS] = list(cls.needs)
        if cls.local_term:
            more[LOCAL_TERM] = cls.local_term
        if cls.keeps_edge_state:
            more[KEEPS_EDGE_STATE] = True
        return cls.Parameters.model_json_schema() | more

    def least(self) -> int:
        """Return the updates with which a round may close, at least."""
        needed = self.least_updates.of(self.parameters) if self.least_updates is not None else 1
        return max(self.parameters.min_node_number, needed)

    def initial(self, kind: str) -> float:
        """Return the value of every element of that kind of state before the first round."""
        return 0.0

    def measure(self, piece: Piece) -> Array:
        """Return a statistic of this piece of the updates: float64, of one shape for all pieces. The sum over all
        pieces is ``RoundFacts.measured``."""
        raise NotImplementedError(f"{type(self).__name__} measures, and defines no measure()")

    def decide(self, facts: RoundFacts) -> Decision:
        """Return the decision on a round; called once, before the first piece is combined."""
        return Decision()

    @abstractmethod
    def combine(self, piece: Piece) -> Combined:
        """Return one piece from those of the updates. Integer and boolean tensors do not come here: they become the
        weighted mean, rounded to even, and the weighted majority."""
