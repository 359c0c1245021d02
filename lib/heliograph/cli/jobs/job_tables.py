"""Answers about a job as a sentence and a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from heliograph.bus.contract.resources import ENDED

SHORT = 12
"""Digits of a digest that a table shows."""
Answer = dict[str, Any]


class Table(NamedTuple):
    """A sentence, and the rows below it."""

    summary: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def _dataset(answer: Answer) -> Table:
    told = [("train", each) for each in answer["edges"]]
    if "evaluation" in answer:
        told.append(("evaluate", answer["evaluation"]))
    rows = []
    for use, each in told:
        index = each.get("index", {})
        version = index.get("version") or index.get("digest", "")
        rows.append([each["edge"], use, each["dataset"], str(index.get("samples", "")), index.get("format", ""),
                     version[:SHORT], _presence(each, index)])  # fmt: skip
    edges = answer["edgeCount"]
    summary = f"{answer['samples']:,} samples on {edges} edge{'s' if edges != 1 else ''}"
    return Table(summary, ("NODE", "USE", "DATASET", "SAMPLES", "FORMAT", "VERSION", "NOTE"), rows)


def _presence(each: Answer, index: Answer) -> str:
    if not each["online"]:
        return "offline"
    if not index:
        return "the node tells nothing about it" if each["dataset"] else ""
    return str(index.get("error", ""))


def _models(answer: Answer) -> Table:
    rows = [[str(each["version"]), state, str(each["round"]), each["weights"]["digest"][:SHORT], _metrics(each)]
            for state, versions in (("result", answer["versions"]), ("unfinished", answer["unfinished"]))
            for each in versions]  # fmt: skip
    if answer["digest"] and all(answer["digest"][:SHORT] != row[3] for row in rows):
        rows.append(["", "now", str(answer["round"]), answer["digest"][:SHORT], ""])
    own = answer["personalCount"]
    summary = f"model {answer['model']}" + (f"; {own} edges have one of their own" if own else "")
    return Table(summary if rows else f"{summary}: no round is closed yet",
                 ("VERSION", "STATE", "ROUND", "DIGEST", "METRICS"), rows)  # fmt: skip


def _training(answer: Answer) -> Table:
    summary = f"{answer['phase']}, round {answer['round']} of {answer['rounds']}"
    counts = [f"{answer[key]} {word}" for key, word in (("participants", "in this round"), ("refusedCount", "refused"),
              ("lateCount", "late")) if answer[key]]  # fmt: skip
    phase = answer["phase"]
    rows = [[each["edge"], each["worker"], _role(each, phase), each["state"], str(each["restarts"] or ""),
             each["detail"]] for each in answer["edges"]]  # fmt: skip
    return Table("; ".join([summary, *counts]), ("EDGE", "WORKER", "ROUND", "STATE", "RESTARTS", "NOTE"), rows)


def _role(each: Answer, phase: str) -> str:
    if each["left"]:
        return "left"
    if phase in ENDED:
        return ""
    if not each["online"]:
        return "offline"
    return "takes part" if each["participates"] else "waits"


def _evaluation(answer: Answer) -> Table:
    rows = [[str(each["round"]), each["model"][:SHORT], _metrics(each)] for each in answer["rounds"]]
    data = answer.get("data")
    if data is None:
        return Table("no evaluation: the job names no evaluation worker")
    where = f"evaluated on {data['dataset']} of {data['edge']}"
    trouble = f"; {answer['state']}: {answer['detail']}" if answer["detail"] else ""
    return Table(f"{where}{trouble}", ("ROUND", "DIGEST", "METRICS"), rows)


def _deployment(answer: Answer) -> Table:
    if not answer["versions"]:
        return Table(f"the job has made no version of model {answer['model']} yet")
    rows = []
    for each in answer["versions"]:
        where = ["every edge that is bound to no other"] if each["everywhere"] else []
        rows.append([str(each["version"]), each["digest"][:SHORT], ", ".join(each["aliases"]),
                     "; ".join([*where, *each["edges"]]) or "nowhere"])  # fmt: skip
    return Table(f"model {answer['model']}", ("VERSION", "DIGEST", "ALIASES", "EDGES"), rows)


def _metrics(each: Answer) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(each.get("metrics", {}).items()))


TABLES: Mapping[str, Callable[[Answer], Table]] = {
    "dataset": _dataset,
    "models": _models,
    "training": _training,
    "evaluation": _evaluation,
    "deployment": _deployment,
}
