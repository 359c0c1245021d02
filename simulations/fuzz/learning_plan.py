"""The learning jobs of a plan: incremental learning in the cloud and on edges, and the training of pairs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.plan_document import Label, PlanDocument, Seconds, Share

ActVerb = Literal["training", "evaluation", "deployment", "stop", "start", "update", "delete"]
SAMPLES = "samples"
"""The data set of pair jobs' nodes."""
PUBLIC = "public"


class Act(PlanDocument):
    """What an operator does to a job: a step asked for by hand, a stop, a changed spec, and so on."""

    verb: ActVerb
    at: Seconds

    def __str__(self) -> str:
        return f"{self.verb} at {self.at:g} s"


class LearningJob(PlanDocument):
    """An incremental learning job, with its queue, its labellers, and the service whose hard samples it learns.

    Attributes:
        size: of its model: ``tiny`` travels in events, ``blob`` does not.
        node: node that trains; where the location is ``edge``, each of its edges does.
        edges: edges that serve the model; where the location is ``edge``, they learn too.
        samples: hard samples that each edge finds, one every ``pause`` seconds.
        new_samples: labelled samples that begin a round; ``every``: seconds that do too, 0 for none.
        rounds: after which the job has succeeded; 0 for none.
        declared: whether the model has a first version; without it the first candidate becomes that.
        broken: share of the rounds whose training crashes each time.
        good: share of the candidates that pass the gate.
        steady: share of these that stand their canary; without ``canary`` there is none.
        overlap: labels that a sample needs. There are two labellers more: one passes over tasks, lets leases end and
            repeats itself.
        lease: seconds of a lease.
    """

    name: Annotated[str, StringConstraints(pattern="^learn-[0-9]+$")]
    location: Literal["cloud", "edge"] = "cloud"
    at: Seconds = 0.0
    size: Literal["tiny", "blob"] = "tiny"
    node: Label = CLOUD
    edges: Annotated[tuple[Label, ...], Field(min_length=1)]
    samples: Annotated[int, Field(ge=1, le=200)] = 10
    pause: Annotated[float, Field(gt=0, le=60)] = 0.5
    new_samples: Annotated[int, Field(ge=1, le=1000)] = 4
    every: Seconds = 0.0
    rounds: Annotated[int, Field(ge=0, le=100)] = 0
    declared: bool = True
    broken: Share = 0.0
    good: Share = 1.0
    canary: bool = False
    steady: Share = 1.0
    overlap: Annotated[int, Field(ge=1, le=3)] = 1
    lease: Annotated[float, Field(ge=1, le=60)] = 5.0
    acts: tuple[Act, ...] = ()

    @property
    def end(self) -> float:
        """Time at which the last act is over."""
        return max([self.at, *(each.at for each in self.acts)])

    def __str__(self) -> str:
        acts = "".join(f", {each}" for each in self.acts)
        where = f"on {self.node}, served by {' '.join(self.edges)}" if self.location == "cloud" else (
            f"on each of {' '.join(self.edges)}"
        )  # fmt: skip
        every = f" or {self.every:g} s" if self.every else ""
        rounds = f", {self.rounds} rounds" if self.rounds else ""
        more = f", {self.broken:.0%} crash" if self.broken else ""
        more += "" if self.declared else ", of a model without a version"
        more += f", canaries of which {self.steady:.0%} stand" if self.canary else ""
        return (f"{self.at:6.2f} s  job {self.name} ({self.size}) {where}: {self.samples} samples each, one every "
                f"{self.pause:g} s, {self.overlap} labels, leases of {self.lease:g} s; learns {self.new_samples}"
                f"{every}{rounds}, {self.good:.0%} pass{more}{acts}")  # fmt: skip


class PairJob(PlanDocument):
    """A pair training job.

    Attributes:
        node: node that trains; it has the data sets.
        public: whether samples of a public data set are selected.
        service: whether the job makes a service of its pair.
        good: share of the pairs that are accurate enough.
    """

    name: Annotated[str, StringConstraints(pattern="^pair-[0-9]+$")]
    at: Seconds = 0.0
    size: Literal["tiny", "blob"] = "tiny"
    node: Label = CLOUD
    public: bool = False
    service: bool = False
    good: Share = 1.0
    acts: tuple[Act, ...] = ()

    @property
    def end(self) -> float:
        """Time at which the last act is over."""
        return max([self.at, *(each.at for each in self.acts)])

    def __str__(self) -> str:
        acts = "".join(f", {each}" for each in self.acts)
        return (f"{self.at:6.2f} s  job {self.name} ({self.size}) on {self.node}{', with public samples' * self.public}"
                f"{', makes a service' * self.service}: {self.good:.0%} pass{acts}")  # fmt: skip
