"""A scenario as its file says it. What these models cannot say alone, ``checks`` does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused
from heliograph.core.names import Label
from heliograph.local.split import Split
from heliograph.simulations.scenario.quantities import Bandwidths, Duration, Latencies, Losses, Offset, Speeds

MOST_EDGES = 10_000
DIGITS = 1797
"""Samples that scikit-learn's digits have."""
HELD_OUT = 360
SAMPLES_EACH = 32
"""Synthetic samples of an edge, on average, where nobody says."""

Behaviour = Literal["nan", "wrong-shape", "sign-flip", "scale", "huge-num-samples", "label-flip"]
Kind = Literal[
    "crash-agent", "crash-worker", "crash-coordinator", "full-disk", "wrong-clock", "slow-link", "partition",
    "byzantine", "straggler",
]  # fmt: skip
Text = Annotated[str, StringConstraints(max_length=4096)]


def _split(text: str) -> str:
    try:
        Split.parse(text)
    except Refused as error:
        raise ValueError(error.expected) from None
    return text


def _some(value: Any) -> Any:
    """Edges: ``all``, names, so many, or a share of all."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise ValueError("expected all, names, how many, or a share of all below 1")
    if isinstance(value, (int, float)) and not (0 < value < 1 or (value >= 1 and value == int(value))):
        raise ValueError("expected how many, from 1, or a share between 0 and 1")
    return [value] if isinstance(value, str) and value != "all" else value


Edges = Annotated[
    Literal["all"] | float | Annotated[list[Label], Field(min_length=1, max_length=MOST_EDGES)], BeforeValidator(_some)
]
"""``all``, names of edges or of groups of them, how many (drawn by the seed), or a share of all (drawn, too)."""


class Part(BaseModel):
    """A part of a scenario: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, populate_by_name=True)


class EdgeGroup(Part):
    """Edges of one kind, named ``<name>-1``, ``<name>-2``, …

    Attributes:
        speed: 1 trains as fast as the workload says; 0.5 takes twice as long. Two values: each edge draws its own.
        memory: MB; where training does not fit it takes ten times as long. 0 sets no limit.
    """

    number: Annotated[int, Field(ge=1, le=MOST_EDGES, strict=True)]
    name: Annotated[Label, StringConstraints(max_length=40)] = "edge"
    speed: Speeds = (1.0, 1.0)
    memory: Annotated[int, Field(ge=0, le=1 << 24, strict=True)] = 0

    @property
    def names(self) -> list[str]:
        return [f"{self.name}-{number + 1}" for number in range(self.number)]


class Data(Part):
    """What the edges have to train on: images of 64 values, 10 classes.

    Attributes:
        set: ``digits``, scikit-learn's, or ``synthetic``, gaussian classes, as many samples as are wanted.
        partition: how they are split over the edges, as ``Split.parse`` reads it.
        samples: to train on, of all edges together. Default: the digits that are not held out, or 32 for each edge.
        held_out: on which each global model is measured, in the cloud.
        seconds_per_sample: what one pass over one sample takes on a machine of speed 1.
    """

    set: Literal["digits", "synthetic"] = "digits"
    partition: Annotated[str, AfterValidator(_split)] = "iid"
    samples: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] | None = None
    held_out: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = HELD_OUT
    seconds_per_sample: Annotated[Duration, Field(le=3600)] = 0.001

    def trained_on(self, edges: int) -> int:
        """Samples of all edges together."""
        if self.samples is not None:
            return self.samples
        return DIGITS - self.held_out if self.set == "digits" else SAMPLES_EACH * edges


class Outage(Part):
    """When links are down: ``at`` and ``for``, again after ``every``; or at random, for ``mean_down`` on average
    after ``mean_up`` on average, each link by itself."""

    edges: Edges = "all"
    at: Duration | None = None
    lasting: Annotated[Duration | None, Field(alias="for")] = None
    every: Annotated[Duration | None, Field(gt=0)] = None
    mean_up: Annotated[Duration | None, Field(gt=0)] = None
    mean_down: Annotated[Duration | None, Field(gt=0)] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Outage:
        scheduled = (self.at is not None, self.lasting is not None)
        drawn = (self.mean_up is not None, self.mean_down is not None)
        if not (all(scheduled) and not any(drawn)) and not (all(drawn) and not any((*scheduled, self.every))):
            raise ValueError("expected at and for, perhaps with every; or mean_up and mean_down")
        if self.every is not None and self.lasting is not None and self.every <= self.lasting:
            raise ValueError("expected every to be longer than for")
        return self


class Links(Part):
    """Between each edge and the cloud. Two values: each edge draws its own.

    Attributes:
        latency: one way.
        bandwidth: bytes per second in each direction; 0 sets no limit.
        loss: the share of messages that need to be sent again.
    """

    latency: Latencies = (0.02, 0.02)
    bandwidth: Bandwidths = (0.0, 0.0)
    loss: Losses = (0.0, 0.0)
    outages: Annotated[list[Outage], Field(max_length=100)] = []


class Training(Part):
    """Local training: stochastic gradient descent on the cross-entropy.

    Attributes:
        hidden: units of the hidden layer; 0 is softmax regression.
    """

    hidden: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 32
    local_epochs: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1


class Job(Part):
    """A FederatedTask in short. ``at`` is when it is created.

    Attributes:
        participants: how many edges take part in a round. ``all``: those that are there when it begins. A number: so
            many, drawn anew for each round; it begins when all edges are there.
        deadline: after which a round closes with what has come.
        parameters: of the algorithm.
        training: what the edges do in a round.
        evaluate_every: rounds from one measurement of the global model to the next.
    """

    name: Label
    at: Duration = 0.0
    rounds: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 10
    participants: Annotated[int, Field(ge=1, le=MOST_EDGES, strict=True)] | Literal["all"] = "all"
    quorum: Annotated[int, Field(ge=1, le=MOST_EDGES, strict=True)] | None = None
    deadline: Annotated[Duration, Field(gt=0, le=7 * 86400)] = 60.0
    algorithm: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "FedAvg"
    parameters: Annotated[dict[Annotated[str, StringConstraints(min_length=1, max_length=128)], Scalar],
                          Field(max_length=64)] = {}  # fmt: skip
    training: Training = Training()
    evaluate_every: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 1


class Fault(Part):
    """What goes wrong.

    Attributes:
        targets: edges; for a crashed agent and a wrong clock also ``cloud``, for a wrong clock also ``coordinator``.
        lasting: ``for`` in the file; without it, to the end.
        amount: of a wrong clock the seconds that it is ahead, of a slow link its latency in seconds, of a straggler
            how many times as long it takes, of ``scale`` the factor of the update.
        behaviour: what a byzantine edge does to its updates.
    """

    kind: Kind
    targets: Edges | None = None
    at: Duration = 0.0
    lasting: Annotated[Duration | None, Field(alias="for")] = None
    amount: Offset | None = None
    behaviour: Behaviour | None = None


class Expectation(Part):
    """What must have come of it. ``field`` is a path into the outcome, as ``fields`` lists them."""

    field: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    minimum: float | None = None
    maximum: float | None = None
    equals: bool | float | Annotated[str, StringConstraints(max_length=256)] | None = None


class Scenario(Part):
    """A whole scenario. ``duration`` is the longest that it may take; it ends earlier where all jobs have."""

    name: Label
    description: Text = ""
    seed: Annotated[int, Field(ge=0, le=1 << 53, strict=True)] = 1
    duration: Annotated[Duration, Field(gt=0)] = 3600.0
    edges: Annotated[list[EdgeGroup], Field(min_length=1, max_length=100)]
    data: Data = Data()
    links: Links = Links()
    jobs: Annotated[list[Job], Field(min_length=1, max_length=100)]
    faults: Annotated[list[Fault], Field(max_length=1000)] = []
    expect: Annotated[list[Expectation], Field(max_length=1000)] = []

    @property
    def edge_names(self) -> list[str]:
        return [name for group in self.edges for name in group.names]
