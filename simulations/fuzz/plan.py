"""The plan of a run as small data: edges, jobs and faults. It can be stored, changed and played again."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.topics import (
    AGGREGATION,
    CANDIDATE,
    HARD_SAMPLE,
    LABEL,
    LABEL_TASK,
    MODEL_UPDATE,
    PAIR_RESULT,
    TELEMETRY,
    VERDICT,
    Topic,
)
from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.learning_plan import LearningJob, PairJob
from heliograph.simulations.fuzz.plan_document import Label, PlanDocument, Seconds

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
"""The part of its target that a fault works on; faults on the same part of a target do not overlap."""
HostileKind = Literal["bad-reports", "bad-updates", "bad-events", "bad-device", "flooding-device", "bad-requests"]
BY_ROGUES: tuple[HostileKind, ...] = ("bad-reports", "bad-updates", "bad-events")
BY_DEVICES: tuple[HostileKind, ...] = ("bad-device", "flooding-device")
COORDINATOR = "coordinator"
DOOR = "door"
OF_ROUNDS: tuple[Topic[Any], ...] = (MODEL_UPDATE, TELEMETRY, AGGREGATION)
OF_LEARNING: tuple[Topic[Any], ...] = (HARD_SAMPLE, LABEL_TASK, LABEL, CANDIDATE, VERDICT, PAIR_RESULT)
REPEATED: dict[str, Topic[Any]] = {each.stream_name: each for each in (*OF_ROUNDS, *OF_LEARNING)}
"""Streams in which a message may occur twice; brokers refuse to repeat a compare-and-set."""


class Edge(PlanDocument):
    """An edge. ``every`` is the number of seconds between its device's readings; 0 for no device."""

    name: Label
    speed: Annotated[float, Field(gt=0)] = 1.0
    latency: Seconds = 0.02
    every: Seconds = 0.5


class Job(PlanDocument):
    """A federated job. ``name`` begins with the size of its model (see ``faults.job_chain.SIZES``)."""

    name: Annotated[str, StringConstraints(pattern="^(tiny|blob)-[0-9]+$")]
    at: Seconds = 0.0
    rounds: Annotated[int, Field(ge=1)] = 2
    deadline: Annotated[float, Field(gt=0, le=600)] = 10.0
    quorum: Annotated[int, Field(ge=1)] | None = None
    participants: Annotated[int, Field(ge=1)] | None = None
    """Number of participants, drawn for each round; None for all."""


class Fault(PlanDocument):
    """One fault, in seconds from the start.

    Attributes:
        target: an edge, ``cloud`` or ``coordinator``; a stream for ``repeat``.
        duration: seconds until the fault is undone; a killed process is started again then.
        amount: ``slow``: seconds one way; ``drop``, ``overtake``, ``repeat``: a share; ``wrong-clock``: seconds ahead;
            ``crash-worker``: the worker's position.
        steps: number of steps, over all its tasks, that a crashing process still takes.
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
        text = f"{self.at:6.2f}-{self.end:6.2f} s  {self.kind} {self.target}"
        return f"{text} ({', '.join(more)})" if more else text


class Hostile(PlanDocument):
    """One hostile act: messages, drawn from the plan's seed and ``number``, one every so many seconds.

    Attributes:
        target: a rogue edge, which sends them; an edge, on whose node a hostile device does; ``door``, where a client
            does.
        count: number of messages.
        every: seconds between two of them.
        number: decides the messages.
    """

    kind: HostileKind
    target: Label
    at: Seconds
    count: Annotated[int, Field(ge=1, le=2000)] = 10
    every: Seconds = 0.2
    number: Annotated[int, Field(ge=0)] = 0

    @property
    def end(self) -> float:
        return self.at + self.count * self.every

    def __str__(self) -> str:
        return f"{self.at:6.2f}-{self.end:6.2f} s  {self.kind} {self.target} ({self.count} messages, {self.number})"


class Plan(PlanDocument):
    """The complete input of a run. ``seed`` decides the rest: ids, data and drawn participants.

    Attributes:
        jobs, learning, pairs: federated, incremental and pair jobs.
        rogues: names of hostile edges; they take part in the jobs that ask all edges.
    """

    seed: str
    edges: Annotated[tuple[Edge, ...], Field(min_length=1)]
    jobs: tuple[Job, ...] = ()
    learning: tuple[LearningJob, ...] = ()
    pairs: tuple[PairJob, ...] = ()
    faults: tuple[Fault, ...] = ()
    rogues: tuple[Label, ...] = ()
    hostiles: tuple[Hostile, ...] = ()
    disk_seconds: Seconds = 0.0

    @property
    def end(self) -> float:
        """Time at which the last fault and the last act are over and the last job has been created."""
        ends = [*(each.end for each in self.faults), *(each.end for each in self.hostiles)]
        ends += [*(each.end for each in self.learning), *(each.end for each in self.pairs)]
        return max([0.0, *ends, *(each.at for each in self.jobs)])

    def is_consistent(self) -> bool:
        """Return whether all faults have targets and do not overlap on one part, and the edges can run all jobs."""
        names = {each.name for each in self.edges}
        targets = {*names, CLOUD, COORDINATOR, *REPEATED}
        if len(names) < len(self.edges) or any(each.target not in targets for each in self.faults):
            return False
        if len({*names, *self.rogues, CLOUD}) < len(names) + len(self.rogues) + 1:
            return False
        if any(each.target not in self._places(each.kind) for each in self.hostiles):
            return False
        if any(max(job.participants or 0, job.quorum or 0) > len(self.edges) for job in self.jobs):
            return False
        if any(not {*job.edges, job.node} <= {*names, CLOUD} for job in self.learning):
            return False
        if any(job.node not in {*names, CLOUD} for job in self.pairs):
            return False
        ends: defaultdict[tuple[str, str], float] = defaultdict(float)
        for fault in sorted(self.faults, key=lambda each: each.at):
            if fault.at < ends[fault.part]:
                return False
            ends[fault.part] = fault.end
        return True

    def _places(self, kind: HostileKind) -> set[str]:
        if kind in BY_ROGUES:
            return {*self.rogues}
        return {each.name for each in self.edges} if kind in BY_DEVICES else {DOOR}

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, a write takes {self.disk_seconds:g} s"]
        for edge in self.edges:
            device = f"a reading every {edge.every:g} s" if edge.every else "no device"
            lines.append(f"{edge.name}: speed {edge.speed:g}, {edge.latency:g} s from the cloud, {device}")
        for job in self.jobs:
            participants = job.participants or "all"
            quorum = f", quorum {job.quorum}" if job.quorum else ""
            lines.append(f"{job.at:6.2f} s  job {job.name}: {job.rounds} rounds, {participants} edges{quorum}, "
                         f"deadline {job.deadline:g} s")  # fmt: skip
        lines += [*map(str, self.learning), *map(str, self.pairs)]
        lines += [f"{name}: a hostile edge" for name in self.rogues]
        return "\n".join([*lines, *map(str, self.faults), *map(str, self.hostiles)])
