"""Messages of a run, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.traces.recorded import Recorded

SECOND = 1_000_000_000
BEGAN = 1_700_000_000


@dataclass
class Tape:
    """A list of messages, ordered by time in seconds from the run's start."""

    messages: list[Recorded] = field(default_factory=list)

    def add(self, at: float, topic: str, data: Any) -> None:
        body = encode(Event(f"{len(self.messages)}", "edge/worker/1", "test", data))
        when = round((BEGAN + at) * SECOND)
        self.messages.append(Recorded(topic, body, when, when))

    def edge(self, at: float, name: str, online: bool = True) -> None:
        self.add(at, f"status/edges/{name}", {"status": {"online": online}})

    def job(self, at: float, name: str, phase: str, rounds: int = 3) -> None:
        document = {"kind": "FederatedTask", "metadata": {"name": name, "uid": f"u-{name}"},
                    "spec": {"rounds": rounds}, "status": {"phase": phase}}  # fmt: skip
        self.add(at, f"status/jobs/{name}", document)

    def asked(self, at: float, job: str, round: int, edges: Sequence[str]) -> None:
        task = {"role": "aggregate", "job": job, "job_uid": f"u-{job}", "round": round,
                "collect": {"participants": list(edges)}}  # fmt: skip
        self.add(at, "edge/cloud/down/task", {"edge": "cloud", "tasks": [task]})

    def task(self, at: float, edge: str, digest: str, size: int) -> None:
        task = {"role": "train", "job": "a", "job_uid": "u-a", "round": 1, "model": {"digest": digest, "size": size}}
        self.add(at, f"edge/{edge}/down/task", {"edge": edge, "tasks": [task]})

    def update(self, at: float, job: str, round: int, edge: str, *, size: int = 0, digest: str = "") -> None:
        weights: dict[str, Any] = {"digest": digest or f"{edge}-{round}", "size": size}
        if not size:
            weights["inline"] = b"x" * 100
        data = {"job": job, "job_uid": f"u-{job}", "round": round, "edge": edge, "weights": weights}
        self.add(at, f"edge/{edge}/up/model-update/{job}", data)

    def closed(
        self, at: float, job: str, round: int, counted: Sequence[str] | Mapping[str, str], *,
        refused: Mapping[str, str] | None = None, late: Mapping[str, int] | None = None, reason: str = "complete",
    ) -> None:  # fmt: skip
        digests = dict(counted) if isinstance(counted, Mapping) else {edge: f"{edge}-{round}" for edge in counted}
        data = {
            "job": job, "job_uid": f"u-{job}", "round": round, "counted": digests, "reason": reason,
            "refused": [{"edge": edge, "round": round, "reason": why} for edge, why in (refused or {}).items()],
            "late": [{"edge": edge, "round": of, "reason": "late"} for edge, of in (late or {}).items()],
            "duration_seconds": 2.0,
        }  # fmt: skip
        self.add(at, f"event/aggregation/{job}", data)

    def measured(self, at: float, job: str, round: int, accuracy: float) -> None:
        data = {"job": job, "job_uid": f"u-{job}", "round": round, "model": "m",
                "metrics": {"accuracy": accuracy, "loss": 1 - accuracy}}  # fmt: skip
        self.add(at, f"edge/cloud/up/evaluation/{job}", data)


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def played() -> Callable[..., Tape]:
    """Return a function that makes a plausible run in which one edge is offline for some rounds."""

    def play(edges: int = 8, rounds: int = 12, jobs: Sequence[str] = ("digits",)) -> Tape:
        tape, names = Tape(), [f"edge-{number + 1}" for number in range(edges)]
        for name in names:
            tape.edge(0, name)
        at = 1.0
        for job in jobs:
            tape.job(at, job, "Running", rounds)
            for round in range(1, rounds + 1):
                away = names[1] if 3 <= round <= 5 else ""
                tape.asked(at, job, round, names)
                if round == 3:
                    tape.edge(at + 1, names[1], False)
                there = [name for name in names if name != away]
                for name in there:
                    tape.update(at + 4, job, round, name)
                if round == 6:
                    tape.edge(at + 1, names[1])
                refused = {names[0]: "field num_samples: expected a whole number"} if round == 4 else {}
                late = {names[2]: round - 2} if round in (7, 8) else {}
                counted = [name for name in there if name not in refused]
                tape.closed(at + 8, job, round, counted, refused=refused, late=late)
                tape.measured(at + 9, job, round, 1 - 0.8 / round)
                at += 10
            tape.job(at, job, "Succeeded", rounds)
            at += 3600
        return tape

    return play
