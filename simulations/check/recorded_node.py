"""A node's state, reconstructed from its agent's reports and desired documents: data sets, scripts, offers, workers'
states, and the arrival of each model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.edge_agent.admission import UNKNOWN, Capacity
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.simulations.check.loaded_trace import LoadedTrace, RecordedMessage

NO_OUTPUT = "no output"
"""An agent's words for the last line of a process that printed none."""
SOON = 0.05
"""Seconds by which a report is later than the state it describes."""
_EXIT = re.compile(r"(?:exit code (-?\d+)|signal (\d+)(?: \([^)]*\))?): (.*)", re.DOTALL)
_LEFT = re.compile(r"the script left its loop in round (\d+)(?:; the code after it ended with (.*))?", re.DOTALL)
_OUTSIDE = re.compile(r"does not lie under a --code root of this agent \((.*)\)")
_NOT_HERE = re.compile(r"(?:script|directory) (\S+) is not on this node")


@dataclass(frozen=True)
class Crash:
    """The end of a worker's process, as reported by its agent."""

    code: int
    last: str


@dataclass(frozen=True)
class Left:
    """The end of a process whose script left its loop in a round, as reported by its agent."""

    round: int
    crash: Crash


def _crash_of(detail: str) -> Crash:
    found = _EXIT.fullmatch(detail)
    if found is None:
        return Crash(1, detail)
    return Crash(int(found[1]) if found[1] else -int(found[2]), found[3])


@dataclass(frozen=True)
class WorkerState:
    """A worker's state in one report; ``state`` is empty if the worker is not listed."""

    at: float
    state: str
    detail: str
    final: bool = False

    @property
    def crash(self) -> Crash:
        return _crash_of(self.detail)

    @property
    def left(self) -> Left | None:
        """Return the end of a process whose script left its loop; None for any other state."""
        found = _LEFT.fullmatch(self.detail) if self.state == "finished" else None
        if found is None:
            return None
        return Left(int(found[1]), _crash_of(found[2]) if found[2] else Crash(0, NO_OUTPUT))


class RecordedNode:
    """One edge's node in a trace."""

    def __init__(self, trace: LoadedTrace, edge: str) -> None:
        self.edge = edge
        self.reports = [each for each in trace.of(topics.REPORT, edge=edge) if isinstance(each.data, dict)]
        self._offers = [each for each in trace.of(topics.OFFERS, edge=edge) if isinstance(each.data, dict)]
        self.tasks = [each for each in trace.of(topics.TASK, edge=edge) if isinstance(each.data, dict)]
        self.labels: dict[str, str] = dict(self.reports[0].data.get("labels") or {}) if self.reports else {}
        self.capacity = _capacity(self.reports[0].data.get("capacity") if self.reports else None)
        assigned = {name for each in self.tasks for name in each.data.get("datasets") or {}}
        self.own = sorted({each["name"] for report in self.reports for each in _listed(report, "datasets")} - assigned)
        """Data sets given to the agent at its start."""
        self._arrived = self._arrivals()
        self._done = {(each.data.get("job_uid"), each.data.get("round"))
                      for each in trace.of(topics.MODEL_UPDATE, edge=edge)}  # fmt: skip

    def dataset(self, name: str, now: float) -> tuple[float, DatasetIndex] | None:
        """Return a data set's reported index with its time: the newest one by ``now``, or else the first; None if it
        was never reported."""
        found = None
        for report in self.reports:
            for each in _listed(report, "datasets"):
                if each["name"] == name and (found is None or report.at <= now):
                    found = report.at, DatasetIndex.model_validate(each)
        return found

    def has_received(self, desired: RecordedMessage, by: float) -> bool:
        """Return whether a desired document reached the agent before its link was seen down.

        The agent reported it (or a newer one by then), or it sent updates that belong to the document.
        """
        order = _order(desired.data.get("generation"))
        for report in self.reports:
            observed = _order(report.data.get("observed"))
            if observed == order or (report.at < by and observed > order):
                return True
        return any((task["job_uid"], task["round"]) in self._done
                   for task in _listed(desired, "tasks") if task.get("active", True))  # fmt: skip

    def offers(self) -> tuple[float, dict[str, Any]]:
        """Return the workers' offers with the time at which they came; reports of 0.1 have them."""
        for each in self._offers:
            return each.at, each.data
        for report in self.reports:
            offers = report.data.get("offers") or {}
            if any(offers.values()):
                return report.at, offers
        return 0.0, {}

    def worker_states(self, worker: str, begin: float) -> list[WorkerState]:
        """Return a worker's successive states in the reports since ``begin``."""
        found: list[WorkerState] = []
        for report in self.reports:
            if report.at < begin:
                continue
            listed = next((each for each in _listed(report, "workers") if each["worker"] == worker), {})
            state, detail = str(listed.get("state", "")), str(listed.get("detail", ""))
            reported = WorkerState(report.at, state, detail, bool(listed.get("final")))
            if not found or (found[-1].state, found[-1].detail) != (reported.state, reported.detail):
                found.append(reported)
        return found

    def model_at(self, digest: str) -> float | None:
        """Return the time of a model's arrival at the node; None if its task was never started."""
        return self._arrived.get(digest)

    def code_roots(self, directory: Path) -> tuple[CodeRoot, ...]:
        """Create the files of the node's scripts, and return their code roots."""
        details = [each.get("detail", "") for report in self.reports for each in _listed(report, "workers")]
        absent = {found[1] for text in details if (found := _NOT_HERE.search(text))}
        outside = next((found[1] for text in details if (found := _OUTSIDE.search(text))), None)
        root = directory.resolve()
        for script in sorted({each for each in self._script_fields("boot_file") if each not in absent}):
            path = (root / script.lstrip("/")).resolve()
            if path.is_relative_to(root):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        directories = {*self._script_fields("directory"), *self._script_fields("working_directory")}
        for name in sorted(directories - absent):
            path = (root / name.lstrip("/")).resolve()
            if path.is_relative_to(root):
                path.mkdir(parents=True, exist_ok=True)
        if outside is None:
            return (CodeRoot(Path("/"), root),)
        names = [] if outside == "none" else outside.split(", ")
        return tuple(CodeRoot(Path(name), (root / name.lstrip("/")).resolve()) for name in names)

    def _script_fields(self, field: str) -> Iterator[str]:
        """Yield the paths in one field of the tasks' scripts."""
        for each in self.tasks:
            for task in _listed(each, "tasks"):
                named = (task.get("script") or {}).get(field) or ""
                if named and ".." not in PurePosixPath(named).parts:
                    yield named

    def _arrivals(self) -> dict[str, float]:
        needed: dict[tuple[Any, ...], str] = {}
        for each in self.tasks:
            for task in _listed(each, "tasks"):
                model = task.get("model") or {}
                if "inline" not in model and model.get("digest"):
                    needed[task["worker"], task["job_uid"], task["round"]] = model["digest"]
        found: dict[str, float] = {}
        for report in self.reports:
            for worker in _listed(report, "workers"):
                digest = needed.get((worker["worker"], worker["job_uid"], worker["round"]))
                if digest is not None:
                    found.setdefault(digest, max(0.0, report.at - SOON))
        return found


def _order(generation: Any) -> tuple[int, int]:
    return (generation["epoch"], generation["n"]) if isinstance(generation, dict) else (0, 0)


def _listed(message: RecordedMessage, name: str) -> list[dict[str, Any]]:
    found = message.data.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _capacity(reported: Any) -> Capacity:
    """Return what the node had for its workers; the names of its GPUs stay on the node."""
    if not isinstance(reported, dict):
        return UNKNOWN
    return Capacity(reported.get("memory", 0), tuple(map(str, range(reported.get("gpus", 0)))))
