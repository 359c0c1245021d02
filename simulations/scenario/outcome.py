"""The outcome of a run, computed from its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliograph.simulations.scenario.fields import EDGE, EDGES, JOB, RUN
from heliograph.simulations.scenario.timeline import Span


@dataclass
class RoundOutcome:
    """A closed round. Times are seconds from the run's start.

    Attributes:
        asked: number of participants; None if the trace does not have it.
        reason: reason of the close: ``complete``, ``quorum`` or ``deadline``.
        measured: time of the model's evaluation; None without one.
    """

    round: int
    closed: float
    duration: float
    reason: str
    counted: int
    refused: int
    late: int
    asked: int | None = None
    num_samples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)
    measured: float | None = None


@dataclass
class JobOutcome:
    """A job, identified by name and uid: a job created again under its name is another job.

    Attributes:
        rounds: closed rounds in their order, without round 0 (the initial weights).
        staleness: number of late updates by the rounds they were behind.
        refusals: number of refused updates by reason.
    """

    name: str
    uid: str
    phase: str = ""
    created: float = 0.0
    ended: float | None = None
    planned: int | None = None
    rounds: list[RoundOutcome] = field(default_factory=list)
    staleness: dict[int, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    lost: int = 0
    counted_twice: int = 0
    participants: int = 0
    refused_edges: int = 0

    @property
    def evaluations(self) -> list[RoundOutcome]:
        """Rounds whose model was evaluated."""
        return [each for each in self.rounds if each.evaluation]

    def values(self) -> dict[str, float | str]:
        """Return the values of ``fields.JOB``; unmeasured ones are left out."""
        rounds, measured = self.rounds, self.evaluations
        accuracies = [each.evaluation["accuracy"] for each in measured if "accuracy" in each.evaluation]
        losses = [each.evaluation["loss"] for each in measured if "loss" in each.evaluation]
        late = sum(self.staleness.values())
        asked = sum(each.asked or 0 for each in rounds)
        found: dict[str, float | str] = {
            "phase": self.phase or "Running",
            "rounds": len(rounds),
            **{why: sum(each.reason == why for each in rounds) for why in ("complete", "quorum", "deadline")},
            "asked": asked,
            "counted": sum(each.counted for each in rounds),
            "refused": sum(each.refused for each in rounds),
            "late": sum(each.late for each in rounds),
            "duplicates": self.duplicates,
            "participants": self.participants,
            "refused_edges": self.refused_edges,
            "staleness": sum(by * number for by, number in self.staleness.items()) / late if late else 0.0,
            "duration": (self.ended if self.ended is not None else rounds[-1].closed if rounds else self.created)
            - self.created,
            "lost": self.lost,
            "counted_twice": self.counted_twice,
        }
        if accuracies:
            found |= {"accuracy": accuracies[-1], "best_accuracy": max(accuracies)}
        if losses:
            found["loss"] = losses[-1]
        if asked:
            found["participation"] = sum(each.counted for each in rounds if each.asked is not None) / asked
        return {name: found[name] for name in JOB if name in found}


@dataclass
class EdgeOutcome:
    """An edge. ``outages`` are the times during which the coordinator saw it offline."""

    name: str
    bytes_up: int = 0
    bytes_down: int = 0
    asked: int = 0
    counted: int = 0
    refused: int = 0
    late: int = 0
    lost: int = 0
    counted_twice: int = 0
    outages: list[Span] = field(default_factory=list)

    def values(self) -> dict[str, float]:
        """Return the values of ``fields.EDGE``."""
        found = {name: float(getattr(self, name)) for name in EDGE if not name.startswith("outage")}
        away = sum(end - start for start, end in self.outages)
        return found | {"outages": float(len(self.outages)), "outage_seconds": away}


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        began: start of the run in seconds since 1970.
        duration: seconds on the run's own clock.
        unreadable: number of messages that do not fit their topic.
        planned_outages: outages of links by edge, planned by the timeline.
    """

    began: float
    duration: float
    jobs: Mapping[str, JobOutcome]
    edges: Mapping[str, EdgeOutcome]
    messages: int = 0
    unreadable: int = 0
    planned_outages: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    def value(self, path: str) -> float | str | None:
        """Return the value of a path listed in ``fields``; None without a value."""
        words = path.split(".")
        match words:
            case ["jobs", name, last] if name in self.jobs:
                return self.jobs[name].values().get(last)
            case ["edges", last]:
                return self.edge_values().get(last)
            case ["edges", name, last]:
                return self.edges.get(name, EdgeOutcome(name)).values().get(last)
            case ["run", last]:
                return self.run_values().get(last)
        return None

    def edge_values(self) -> dict[str, float]:
        """Return the values of ``fields.EDGES``."""
        edges = list(self.edges.values())
        summed = ("lost", "counted_twice", "bytes_up", "bytes_down")
        found: dict[str, float] = {name: sum(getattr(each, name) for each in edges) for name in summed}
        found |= {
            "number": len(edges),
            "outages": sum(len(each.outages) for each in edges),
            "outage_seconds": sum(end - start for each in edges for start, end in each.outages),
            "counted": sum(each.counted > 0 for each in edges),
            "never_counted": sum(each.asked > 0 and not each.counted for each in edges),
        }
        return {name: found[name] for name in EDGES}

    def run_values(self) -> dict[str, float]:
        """Return the values of ``fields.RUN``."""
        succeeded = sum(job.phase == "Succeeded" for job in self.jobs.values())
        found: dict[str, float] = {"duration": self.duration, "jobs": len(self.jobs), "succeeded": succeeded,
                                   "messages": self.messages}  # fmt: skip
        return {name: found[name] for name in RUN}

    def as_dict(self) -> dict[str, Any]:
        """Return all values as nested dictionaries."""
        return {
            "run": self.run_values(),
            "jobs": {name: job.values() for name, job in self.jobs.items()},
            "edges": self.edge_values(),
        }
