"""What a tracked round has to tell, from the close of the round or from the job's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.payloads.rounds import EdgeMeasure


@dataclass(frozen=True)
class ClosedRound:
    """A closed round.

    Attributes:
        number: from 1; 0 is the round that makes the first model, whose updates that were not counted count in sums.
        time: seconds since 1970 at which it closed.
        counted: number of counted updates.
        edges: the edges with a counted update; None where not all of them are known.
        late, refused: edges of updates that this close names as such, an edge for each update; None where not known.
        duplicates: number of repeated updates; None where not known.
        unnoted: number of further updates that were not counted, which a flood leaves no room for.
        measured: what the round tells of single edges.
    """

    number: int
    time: float
    counted: int
    samples: int
    seconds: float
    metrics: Mapping[str, float]
    uplink_bytes: int = 0
    edges: Sequence[str] | None = None
    late: Sequence[str] | None = None
    refused: Sequence[str] | None = None
    duplicates: int | None = None
    unnoted: int = 0
    measured: Mapping[str, EdgeMeasure] = field(default_factory=dict)


def from_close(close: Aggregation, time: float) -> ClosedRound:
    """Return the round of a close, at a time in seconds since 1970."""
    return ClosedRound(
        close.round, time, len(close.counted), close.num_samples, close.duration_seconds, close.metrics,
        close.uplink_bytes, sorted(close.counted), [each.edge for each in close.late if each.round],
        [each.edge for each in close.refused], close.duplicates, close.unnoted or 0, close.measured,
    )  # fmt: skip


def from_status(document: Mapping[str, Any], now: float) -> list[ClosedRound]:
    """Return the rounds that a job's document has, oldest first: the newest hundred. They count as closed ``now``."""
    found = []
    for record in document.get("status", {}).get("rounds", ()):
        edges = record.get("edges", ())
        found.append(ClosedRound(
            record["round"], now, record["counted"], record.get("numSamples", 0), record.get("durationSeconds", 0.0),
            record.get("metrics", {}), edges=edges if len(edges) == record["counted"] else None,
        ))  # fmt: skip
    return [each for each in found if each.number > 0]


def evaluations_in(document: Mapping[str, Any]) -> dict[int, Mapping[str, float]]:
    """Return the metrics on held-out data by round, of those rounds that a job's document has."""
    rounds = document.get("status", {}).get("rounds", ())
    return {each["round"]: each["evaluation"] for each in rounds if each.get("evaluation") and each["round"] > 0}


def totals_in(document: Mapping[str, Any]) -> dict[str, int]:
    """Return a job's numbers of updates that were not counted, as of the newest round of its document."""
    status = document.get("status", {})
    return {
        "late": status.get("lateCount", 0),
        "refused": status.get("refusedCount", 0),
        "duplicates": status.get("duplicateCount", 0),
        "unnoted": status.get("unnotedCount") or 0,
    }
