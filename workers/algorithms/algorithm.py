"""What an aggregation algorithm is: a class in a file of its own, with what it needs and what it leaves.

The aggregation worker walks through the model block by block and hands the algorithm one ``Piece`` after the other:
the same elements of every update. Nothing here knows of files, brokers or rounds that were cut short; the same pieces
give the same bits, whatever order the updates came in.

Round 0 asks the participants for a model's initial weights. Their weighted mean becomes the first global model, and
the algorithm begins with round 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class AlgorithmParameters(BaseModel):
    """What a job may set of every algorithm.

    Attributes:
        min_node_number: updates without which no round closes.
        rounds_between_validations: the evaluation worker measures every so-manieth model.
        norm_bound: the largest L2 distance of an update from its base model.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    min_node_number: Annotated[int, Field(ge=1)] = 1
    rounds_between_validations: Annotated[int, Field(ge=1)] = 1
    norm_bound: Annotated[float, Field(gt=0)] | None = None


@dataclass(frozen=True)
class RoundFacts:
    """One round, before its updates are combined. Sequences follow the edges' names, sorted.

    Attributes:
        round: its number, from 1.
        asked: how many edges were asked for an update.
        num_samples, metrics: what each edge said of its update.
        measured: the sum of what ``measure`` returned over all pieces; None where it measures nothing.
        state: the whole arrays that the round before left; empty at first.
    """

    round: int
    asked: int
    edges: tuple[str, ...]
    num_samples: tuple[float, ...]
    metrics: tuple[Mapping[str, float], ...]
    measured: Array | None
    state: Mapping[str, Array]


@dataclass(frozen=True)
class Decision:
    """What an algorithm decides from a round's facts.

    Attributes:
        excluded: edges whose update is not counted, each with the reason; the pieces come without them.
        weights: of the edges that are left, summing to 1; by default their shares of the samples.
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

    F16 and BF16 come widened to float32, and what is made of them is rounded once.

    Attributes:
        tensor: its name.
        updates: in the order of ``edges``; they may be overwritten.
        weights: of the edges, summing to 1.
        base: of the model that the updates were trained from; None unless the algorithm ``needs_base``.
        beside: by kind, the tensors that travel beside the weights, in the order of ``edges``.
        state: by kind, what the round before left.
        plan: what the ``Decision`` says; None while the updates are measured.
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
    """What a piece becomes.

    Attributes:
        model: the piece of the global model.
        state: by kind, kept for the next round.
        down: by kind, travels down beside the model.
        personal: the piece of each edge's own model, in the order of ``Piece.edges``.
    """

    model: Array
    state: Mapping[str, Array] = field(default_factory=dict)
    down: Mapping[str, Array] = field(default_factory=dict)
    personal: Sequence[Array] = ()


class Algorithm(ABC):
    """One aggregation algorithm with a job's parameters.

    A package offers one by an entry point of the group ``heliograph.algorithms``, named as jobs name the algorithm.
    Pieces are combined in several threads at the same time: methods change nothing of ``self``.

    Attributes:
        Parameters: their model; its JSON schema is what agents report and jobs are checked against.
        needs_base: pieces have the base model.
        measures: ``measure`` sees every piece before ``decide`` is called.
        beside: kinds of tensors that each update carries besides its weights: for each floating-point tensor ``w``
            one of the same shape, ``<kind>:w``, in the same file.
        state: kinds of tensors that are kept between rounds, each as large as the model's floating-point tensors:
            float64 for F64, else float32.
        down: kinds of tensors that travel down beside the model, laid out as those of the state.
        personal: ``combine`` makes a model for each edge as well.
    """

    Parameters: ClassVar[type[AlgorithmParameters]] = AlgorithmParameters
    needs_base: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    beside: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()
    down: ClassVar[tuple[str, ...]] = ()
    personal: ClassVar[bool] = False

    def __init__(self, parameters: AlgorithmParameters) -> None:
        self.parameters = parameters

    def initial(self, kind: str) -> float:
        """The value of every element of that kind of state before the first round."""
        return 0.0

    def measure(self, piece: Piece) -> Array:
        """A statistic of this piece of the updates: float64, of one shape for all pieces. Their sum is
        ``RoundFacts.measured``."""
        raise NotImplementedError(f"{type(self).__name__} measures, and defines no measure()")

    def decide(self, facts: RoundFacts) -> Decision:
        """Decides once a round, before the first piece is combined."""
        return Decision()

    @abstractmethod
    def combine(self, piece: Piece) -> Combined:
        """Makes one of the updates' pieces. Integer and boolean tensors never come here: they become the weighted
        mean, rounded to even, and the weighted majority."""
