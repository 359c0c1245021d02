"""The models of a scenario's file. ``consistency`` checks the rules between their fields."""

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
"""Number of samples in scikit-learn's digits."""
HELD_OUT = 360
SAMPLES_EACH = 32
"""Default number of synthetic samples per edge."""

Behaviour = Literal["nan", "wrong-shape", "sign-flip", "scale", "huge-num-samples", "label-flip", "outweigh"]
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


def _edge_selection(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise ValueError("expected all, names, a number of edges, or a share below 1")
    if isinstance(value, (int, float)) and not (0 < value < 1 or (value >= 1 and value == int(value))):
        raise ValueError("expected a number of edges from 1, or a share between 0 and 1")
    return [value] if isinstance(value, str) and value != "all" else value


EdgeSelection = Annotated[
    Literal["all"] | float | Annotated[list[Label], Field(min_length=1, max_length=MOST_EDGES)],
    BeforeValidator(_edge_selection),
]
"""``all``, a list of edges and groups, a number of edges, or a share of all. The seed draws a number or a share."""


class Part(BaseModel):
    """A part of a scenario; it refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True, populate_by_name=True)


class EdgeGroup(Part):
    """Edges of one kind, named ``<name>-1``, ``<name>-2``, …

    Attributes:
        speed: factor on the workload's speed; 0.5 takes twice as long. With two values each edge draws its own.
        memory: MB; training that does not fit takes ten times as long. 0 sets no limit.
    """

    number: Annotated[int, Field(ge=1, le=MOST_EDGES, strict=True)]
    name: Annotated[Label, StringConstraints(max_length=40)] = "edge"
    speed: Speeds = (1.0, 1.0)
    memory: Annotated[int, Field(ge=0, le=1 << 24, strict=True)] = 0

    @property
    def names(self) -> list[str]:
        return [f"{self.name}-{number + 1}" for number in range(self.number)]


class Data(Part):
    """The edges' training data: images of 64 values in 10 classes.

    Attributes:
        set: scikit-learn's ``digits``, or ``synthetic`` gaussian classes with any number of samples.
        partition: split of the samples over the edges, in the notation of ``Split.parse``.
        samples: training samples of all edges together. Default: all digits but the held-out ones, or 32 per edge.
        held_out: samples on which the cloud evaluates each global model.
        seconds_per_sample: duration of one pass over one sample at speed 1.
    """

    set: Literal["digits", "synthetic"] = "digits"
    partition: Annotated[str, AfterValidator(_split)] = "iid"
    samples: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] | None = None
    held_out: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = HELD_OUT
    seconds_per_sample: Annotated[Duration, Field(le=3600)] = 0.001

    def training_samples(self, edges: int) -> int:
        """Return the number of training samples of all edges together."""
        if self.samples is not None:
            return self.samples
        return DIGITS - self.held_out if self.set == "digits" else SAMPLES_EACH * edges


class Outage(Part):
    """Outages of links: scheduled by ``at`` and ``for`` and repeated after ``every``, or drawn for each link with the
    averages ``mean_up`` and ``mean_down``."""

    edges: EdgeSelection = "all"
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
            raise ValueError("expected at and for, optionally with every; or mean_up and mean_down")
        if self.every is not None and self.lasting is not None and self.every <= self.lasting:
            raise ValueError("expected every to be longer than for")
        return self


class Links(Part):
    """The links between the edges and the cloud. With two values each edge draws its own.

    Attributes:
        latency: seconds, one way.
        bandwidth: bytes per second in each direction; 0 sets no limit.
        loss: share of messages that must be sent again.
    """

    latency: Latencies = (0.02, 0.02)
    bandwidth: Bandwidths = (0.0, 0.0)
    loss: Losses = (0.0, 0.0)
    outages: Annotated[list[Outage], Field(max_length=100)] = []


class Training(Part):
    """Local training by stochastic gradient descent on the cross-entropy.

    Attributes:
        hidden: units of the hidden layer; 0 is softmax regression.
    """

    hidden: Annotated[int, Field(ge=0, le=100_000, strict=True)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.1
    batch_size: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 32
    local_epochs: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1


class Job(Part):
    """A FederatedTask in short form.

    Attributes:
        at: time of the job's creation.
        participants: number of edges in a round. ``all``: the edges that are online when the job begins. A number: that
            many edges, drawn for each round; the job begins when all edges are online.
        deadline: seconds after which a round closes with the updates received so far.
        parameters: parameters of the algorithm.
        training: local training in each round.
        evaluate_every: rounds between two evaluations of the global model.
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
    """A fault.

    Attributes:
        targets: edges; also ``cloud`` for ``crash-agent`` and ``wrong-clock``, and ``coordinator`` for ``wrong-clock``.
        lasting: duration, ``for`` in the file; without it the fault lasts to the end.
        amount: seconds by which a wrong clock is ahead; latency of a slow link in seconds; factor on a straggler's
            duration; factor on the update for ``scale``.
        behaviour: corruption of a byzantine edge's updates.
    """

    kind: Kind
    targets: EdgeSelection | None = None
    at: Duration = 0.0
    lasting: Annotated[Duration | None, Field(alias="for")] = None
    amount: Offset | None = None
    behaviour: Behaviour | None = None


class Expectation(Part):
    """A condition on the outcome. ``field`` is one of the paths that ``fields`` lists."""

    field: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    minimum: float | None = None
    maximum: float | None = None
    equals: bool | float | Annotated[str, StringConstraints(max_length=256)] | None = None


class Scenario(Part):
    """A whole scenario. ``duration`` is its longest duration; it ends earlier if all jobs have ended."""

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
