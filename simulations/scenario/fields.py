"""The fields of an outcome that an expectation may name, and the values that each can have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.simulations.scenario.document import Scenario


@dataclass(frozen=True)
class Field:
    """What an outcome's field says, and between which values. Those of ``words`` are text."""

    doc: str
    most: float = math.inf
    words: tuple[str, ...] = ()


_SHARE = 1.0
JOB: dict[str, Field] = {
    "phase": Field("how it ended, Running where it had not",
                   words=("Pending", "Running", "Succeeded", "Failed", "Stopped")),
    "accuracy": Field("of the last global model that was measured", _SHARE),
    "best_accuracy": Field("the highest measured", _SHARE),
    "loss": Field("of the last global model that was measured"),
    "rounds": Field("rounds closed"),
    "complete": Field("rounds closed because everyone had answered"),
    "quorum": Field("rounds closed because the quorum was there"),
    "deadline": Field("rounds closed because time was over"),
    "asked": Field("participants asked, over all rounds"),
    "counted": Field("updates counted"),
    "refused": Field("updates refused"),
    "late": Field("updates that came too late"),
    "duplicates": Field("updates that came again"),
    "participation": Field("updates counted, of the participants asked", _SHARE),
    "participants": Field("edges of which an update was counted"),
    "refused_edges": Field("edges of which an update was refused"),
    "staleness": Field("rounds by which late updates were behind, on average"),
    "duration": Field("seconds from the job's creation to its last round"),
    "lost": Field("updates that reached the cloud and of which no round tells"),
    "counted_twice": Field("updates counted in more than one round"),
}  # fmt: skip
EDGES: dict[str, Field] = {
    "number": Field("edges seen"),
    "lost": Field("updates that reached the cloud and of which no round tells"),
    "counted_twice": Field("updates counted in more than one round"),
    "bytes_up": Field("bytes from the edges to the cloud"),
    "bytes_down": Field("bytes from the cloud to the edges"),
    "outages": Field("times that an edge was away"),
    "outage_seconds": Field("seconds that edges were away, together"),
    "counted": Field("edges of which an update was counted"),
    "never_counted": Field("edges that were asked and of which no update was counted"),
}
EDGE: dict[str, Field] = {
    "bytes_up": Field("bytes to the cloud"),
    "bytes_down": Field("bytes from the cloud"),
    "asked": Field("rounds it was asked in"),
    "counted": Field("updates counted"),
    "refused": Field("updates refused"),
    "late": Field("updates that came too late"),
    "outages": Field("times it was away"),
    "outage_seconds": Field("seconds it was away"),
    "lost": Field("updates that reached the cloud and of which no round tells"),
}
RUN: dict[str, Field] = {
    "duration": Field("seconds of the run, in its own time"),
    "jobs": Field("jobs seen"),
    "succeeded": Field("jobs that succeeded"),
    "messages": Field("messages seen"),
}


def find(path: str, scenario: Scenario) -> Field:
    """The field of that path: ``jobs.NAME.FIELD``, ``edges.FIELD``, ``edges.NAME.FIELD`` or ``run.FIELD``. Raises
    Refused where no outcome of the scenario can have it."""
    words = path.split(".")
    match words:
        case ["jobs", name, last]:
            names = [job.name for job in scenario.jobs]
            if name not in names:
                raise _unknown(path, f"jobs.NAME.FIELD with NAME of {', '.join(names[:20])}")
            found, shape = JOB, f"jobs.{name}."
            if last == "rounds" and last in found:
                return Field(found[last].doc, next(job.rounds for job in scenario.jobs if job.name == name))
        case ["edges", last]:
            found, shape = EDGES, "edges."
        case ["edges", name, last]:
            if name not in scenario.edge_names:
                raise _unknown(path, f"edges.NAME.FIELD with NAME of {', '.join(scenario.edge_names[:20])}")
            found, shape = EDGE, f"edges.{name}."
        case ["run", last]:
            found, shape = RUN, "run."
        case _:
            raise _unknown(path, "jobs.NAME.FIELD, edges.FIELD, edges.NAME.FIELD or run.FIELD")
    if last not in found:
        raise _unknown(path, f"{shape}FIELD with FIELD of {', '.join(found)}")
    return found[last]


def _unknown(path: str, expected: str) -> Refused:
    return Refused("unknown-field", field="field", expected=expected, got=path)
