"""The fields of an outcome that an expectation may name, and the possible values of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.simulations.scenario.document import Scenario


@dataclass(frozen=True)
class Field:
    """A field of an outcome: a number from 0 to ``maximum``, or one of the texts in ``choices``."""

    doc: str
    maximum: float = math.inf
    choices: tuple[str, ...] = ()


_SHARE = 1.0
JOB: dict[str, Field] = {
    "phase": Field("last phase of the job; Running if it had not ended",
                   choices=("Pending", "Running", "Succeeded", "Failed", "Stopped")),
    "accuracy": Field("accuracy of the last evaluated global model", _SHARE),
    "best_accuracy": Field("highest accuracy of an evaluated global model", _SHARE),
    "loss": Field("loss of the last evaluated global model"),
    "rounds": Field("rounds closed"),
    "complete": Field("rounds closed because all participants had answered"),
    "quorum": Field("rounds closed at the quorum"),
    "deadline": Field("rounds closed at the deadline"),
    "asked": Field("participants asked, over all rounds"),
    "counted": Field("updates counted"),
    "refused": Field("updates refused"),
    "late": Field("updates that were late"),
    "duplicates": Field("updates received again"),
    "participation": Field("share of the asked participants whose update was counted", _SHARE),
    "participants": Field("edges with a counted update"),
    "refused_edges": Field("edges with a refused update"),
    "staleness": Field("mean staleness of late updates, in rounds"),
    "duration": Field("seconds from the job's creation to its last round"),
    "lost": Field("updates that reached the cloud and that no round mentions"),
    "counted_twice": Field("updates counted in more than one round"),
}  # fmt: skip
EDGES: dict[str, Field] = {
    "number": Field("edges seen"),
    "lost": Field("updates that reached the cloud and that no round mentions"),
    "counted_twice": Field("updates counted in more than one round"),
    "bytes_up": Field("bytes from the edges to the cloud"),
    "bytes_down": Field("bytes from the cloud to the edges"),
    "outages": Field("outages of all edges"),
    "outage_seconds": Field("total duration of the outages, in seconds"),
    "counted": Field("edges with a counted update"),
    "never_counted": Field("edges that were asked and had no update counted"),
}
EDGE: dict[str, Field] = {
    "bytes_up": Field("bytes to the cloud"),
    "bytes_down": Field("bytes from the cloud"),
    "asked": Field("rounds in which the edge was asked"),
    "counted": Field("updates counted"),
    "refused": Field("updates refused"),
    "late": Field("updates that were late"),
    "outages": Field("outages of the edge"),
    "outage_seconds": Field("total duration of its outages, in seconds"),
    "lost": Field("updates that reached the cloud and that no round mentions"),
}
RUN: dict[str, Field] = {
    "duration": Field("seconds of the run, on its own clock"),
    "jobs": Field("jobs seen"),
    "succeeded": Field("jobs that succeeded"),
    "messages": Field("messages seen"),
}


def find_field(path: str, scenario: Scenario) -> Field:
    """Return the field of a path: ``jobs.NAME.FIELD``, ``edges.FIELD``, ``edges.NAME.FIELD`` or ``run.FIELD``.

    Raises Refused if no outcome of the scenario can have it.
    """
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
