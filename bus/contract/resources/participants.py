"""How many edges take part in a round of a federated task, and how they are selected."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import Document, Parameter
from heliograph.bus.contract.versions import added

Strategy = Literal["random", "resources", "power-of-choice", "oort"]
FEWER: tuple[Strategy, ...] = ("power-of-choice", "oort")
"""The strategies that compare edges: they select fewer than there are."""


class ParticipantSelection(Document):
    """How the participants of a round are selected among the edges that can work.

    Attributes:
        strategy: ``random``: all alike; ``resources``: those that report enough memory, cores and battery;
            ``power-of-choice`` and ``oort``: those with a high loss, and with ``oort`` those that are quick, too.
        parameters: of the strategy.
        at_least_every: rounds of which each edge that can work is asked in one at least.
    """

    strategy: Strategy = "random"
    parameters: list[Parameter] = Field(default_factory=list, max_length=32)
    at_least_every: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None


class Participants(Document):
    """How many edges take part in each round: ``{count: 3}``, ``{fraction: 0.1}``, or ``{all: true}``.

    With a count below the number of training workers, each round selects that many anew. With a higher count, the last
    worker without a ``nodeName`` runs on further edges too; with a fraction, a selection, or ``all``, on every further
    edge that offers its data set, also on those that come later. ``3`` and ``all``, the forms of release 0.1, are valid
    too.

    Attributes:
        fraction: share of the edges with a training worker, one edge at least.
        selection: how they are selected; without it at random.
    """

    count: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    all: bool | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = added("0.2")
    selection: ParticipantSelection | None = added("0.2")

    @property
    def takes_further_edges(self) -> bool:
        """Whether every further edge gets a worker: there is no number of edges that it would be enough for."""
        return self.count is None or self.selection is not None

    @model_validator(mode="before")
    @classmethod
    def _as_0_1_wrote_it(cls, given: Any) -> Any:
        if type(given) is int:
            return {"count": given}
        if given == "all":
            return {"all": True}
        if not isinstance(given, (Mapping, cls)):
            raise ValueError("expected {count: N}, {fraction: 0.1} or {all: true}")
        return given

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.count is not None) + (self.fraction is not None) + bool(self.all) != 1:
            raise ValueError("expected either {count: N}, {fraction: 0.1} or {all: true}")
        if self.all and self.selection is not None and self.selection.strategy in FEWER:
            raise ValueError(f"expected count or fraction: {self.selection.strategy} selects fewer edges than all")
        return self
