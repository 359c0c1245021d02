"""A run as small data: edges, jobs and faults. It can be written down, changed, and played again."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from heliograph.bus.contract.topics import AGGREGATION, MODEL_UPDATE, TELEMETRY, Topic
from heliograph.core.names import CLOUD

Kind = Literal[
    "crash-coordinator", "crash-agent", "crash-worker", "restart-node-broker", "restart-device", "cut", "reset",
    "slow", "drop", "overtake", "overtake-on-node", "repeat", "full-disk", "wrong-clock",
]  # fmt: skip
PARTS: dict[Kind, str] = {
    "crash-coordinator": "process", "crash-agent": "process", "crash-worker": "worker",
    "restart-node-broker": "node's broker", "restart-device": "device", "cut": "link", "reset": "link",
    "slow": "latency", "drop": "drops", "overtake": "order", "overtake-on-node": "order on the node",
    "repeat": "stream", "full-disk": "process", "wrong-clock": "clock",
}  # fmt: skip
"""What a fault works on: of two faults on one part of one target the first ends before the second begins."""
COORDINATOR = "coordinator"
REPEATED: dict[str, Topic[Any]] = {each.stream_name: each for each in (MODEL_UPDATE, TELEMETRY, AGGREGATION)}
"""Streams of which a message may be there twice: what is written by compare-and-set no broker takes again."""

Label = Annotated[str, StringConstraints(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Edge(_Document):
    """An edge, and how often its device sends a reading: every so many seconds, or never (0)."""

    name: Label
    speed: Annotated[float, Field(gt=0)] = 1.0
    latency: Seconds = 0.02
    every: Seconds = 0.5


class Job(_Document):
    """A federated job. ``name`` begins with the size of its model (see ``faults.jobs.SIZES``)."""

    name: Annotated[str, StringConstraints(pattern="^(tiny|blob)-[0-9]+$")]
    at: Seconds = 0.0
    rounds: Annotated[int, Field(ge=1)] = 2
    deadline: Annotated[float, Field(gt=0, le=600)] = 10.0
    quorum: Annotated[int, Field(ge=1)] | None = None
    participants: Annotated[int, Field(ge=1)] | None = None
    """Drawn anew for each round; None: all."""


class Fault(_Document):
    """One fault, in seconds from the start.

    Attributes:
        target: an edge, ``cloud``, ``coordinator``; a stream where a message of it is repeated.
        duration: until it is undone: a killed process is started again so long after.
        amount: ``slow``: seconds one way; ``drop``, ``overtake``, ``repeat``: a share; ``wrong-clock``: seconds ahead;
            ``crash-worker``: which of them.
        steps: of a process that crashes, the steps that it still takes: of all its tasks, up to any await.
    """

    kind: Kind
    target: Label | Annotated[str, StringConstraints(pattern=f"^({'|'.join(REPEATED)})$")]
    at: Seconds
    duration: Seconds = 0.0
    amount: float = 0.0
    steps: Annotated[int, Field(ge=0)] = 0

    @property
    def end(self) -> float:
        return self.at + self.duration

    @property
    def part(self) -> tuple[str, str]:
        return PARTS[self.kind], self.target

    def __str__(self) -> str:
        more = [f"{self.amount:g}"] if self.amount else []
        more += [f"after {self.steps} steps"] if self.steps else []
        what = f"{self.at:6.2f}-{self.end:6.2f} s  {self.kind} {self.target}"
        return f"{what} ({', '.join(more)})" if more else what


class Plan(_Document):
    """Everything a run is made from; ``seed`` decides what the plan leaves open: ids, data, who is drawn."""

    seed: str
    edges: Annotated[tuple[Edge, ...], Field(min_length=1)]
    jobs: tuple[Job, ...] = ()
    faults: tuple[Fault, ...] = ()
    disk_seconds: Seconds = 0.0

    @property
    def end(self) -> float:
        """When the last fault is over and the last job has been asked for."""
        return max([0.0, *(each.end for each in self.faults), *(each.at for each in self.jobs)])

    def is_consistent(self) -> bool:
        """Whether its faults have targets and leave each other alone, and its jobs can be asked for."""
        names = {each.name for each in self.edges}
        targets = {*names, CLOUD, COORDINATOR, *REPEATED}
        if len(names) < len(self.edges) or any(each.target not in targets for each in self.faults):
            return False
        if any(max(job.participants or 0, job.quorum or 0) > len(self.edges) for job in self.jobs):
            return False
        ends: defaultdict[tuple[str, str], float] = defaultdict(float)
        for fault in sorted(self.faults, key=lambda each: each.at):
            if fault.at < ends[fault.part]:
                return False
            ends[fault.part] = fault.end
        return True

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, a write takes {self.disk_seconds:g} s"]
        for edge in self.edges:
            device = f"a reading every {edge.every:g} s" if edge.every else "no device"
            lines.append(f"{edge.name}: speed {edge.speed:g}, {edge.latency:g} s from the cloud, {device}")
        for job in self.jobs:
            who = job.participants or "all"
            quorum = f", quorum {job.quorum}" if job.quorum else ""
            lines.append(f"{job.at:6.2f} s  job {job.name}: {job.rounds} rounds, {who} edges{quorum}, "
                         f"deadline {job.deadline:g} s")  # fmt: skip
        return "\n".join([*lines, *map(str, self.faults)])
