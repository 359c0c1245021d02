"""What a node has and does, as its agent's recorded reports and desired documents tell: data sets, scripts, offers, the
lives of its workers, and when each model had come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.resources import DatasetIndex
from heliograph.edge_agent.reconcile import CodeRoot
from heliograph.simulations.check.material import Heard, Material

SOON = 0.05
"""Seconds that a report takes to be written: what it tells was so before."""
_EXIT = re.compile(r"exit code (-?\d+): (.*)", re.DOTALL)
_OUTSIDE = re.compile(r"does not lie under a --code root of this agent \((.*)\)")
_NOT_HERE = re.compile(r"script (\S+) is not on this node")


@dataclass(frozen=True)
class Crash:
    """How a worker's process ended, as its agent told it."""

    code: int
    last: str


@dataclass(frozen=True)
class Moment:
    """What one report said of a worker; ``state`` is empty where it was not listed."""

    at: float
    state: str
    detail: str

    @property
    def crash(self) -> Crash:
        found = _EXIT.fullmatch(self.detail)
        return Crash(int(found[1]), found[2]) if found is not None else Crash(1, self.detail)


class Node:
    """One edge's node, out of a trace."""

    def __init__(self, material: Material, edge: str) -> None:
        self.edge = edge
        self.reports = [each for each in material.of(topics.REPORT, edge=edge) if isinstance(each.data, dict)]
        self.tasks = [each for each in material.of(topics.TASK, edge=edge) if isinstance(each.data, dict)]
        self.labels: dict[str, str] = dict(self.reports[0].data.get("labels") or {}) if self.reports else {}
        told = {name for each in self.tasks for name in each.data.get("datasets") or {}}
        self.own = sorted({each["name"] for report in self.reports for each in _listed(report, "datasets")} - told)
        """Data sets that the agent was started with."""
        self._came = self._arrivals()
        self._done = {(each.data.get("job_uid"), each.data.get("round"))
                      for each in material.of(topics.MODEL_UPDATE, edge=edge)}  # fmt: skip

    def dataset(self, name: str, now: float) -> tuple[float, DatasetIndex] | None:
        """The index that was reported of a data set, and when: the newest by now, else the first one; None where it was
        never reported."""
        found = None
        for report in self.reports:
            for each in _listed(report, "datasets"):
                if each["name"] == name and (found is None or report.at <= now):
                    found = report.at, DatasetIndex.model_validate(each)
        return found

    def heard(self, desired: Heard, by: float) -> bool:
        """Whether a desired document had reached the agent before its link was seen to be away: it had reported it by
        then, or afterwards that one and no newer, or what it made of it."""
        order = _order(desired.data.get("generation"))
        for report in self.reports:
            observed = _order(report.data.get("observed"))
            if observed == order or (report.at < by and observed > order):
                return True
        return any((task["job_uid"], task["round"]) in self._done
                   for task in _listed(desired, "tasks") if task.get("active", True))  # fmt: skip

    def offers(self) -> tuple[float, dict[str, Any]]:
        """What its workers offered, and when that was reported."""
        for report in self.reports:
            offers = report.data.get("offers") or {}
            if any(offers.values()):
                return report.at, offers
        return 0.0, {}

    def life(self, worker: str, begin: float) -> list[Moment]:
        """What the reports since ``begin`` said of a worker."""
        found: list[Moment] = []
        for report in self.reports:
            if report.at < begin:
                continue
            said = next((each for each in _listed(report, "workers") if each["worker"] == worker), {})
            moment = Moment(report.at, str(said.get("state", "")), str(said.get("detail", "")))
            if not found or (found[-1].state, found[-1].detail) != (moment.state, moment.detail):
                found.append(moment)
        return found

    def model_at(self, digest: str) -> float | None:
        """When a model had come to the node; None where its task was never begun."""
        return self._came.get(digest)

    def code_roots(self, directory: Path) -> tuple[CodeRoot, ...]:
        """Roots under which the scripts lie that lay on the node; their files are made."""
        said = [each.get("detail", "") for report in self.reports for each in _listed(report, "workers")]
        absent = {found[1] for text in said if (found := _NOT_HERE.search(text))}
        outside = next((found[1] for text in said if (found := _OUTSIDE.search(text))), None)
        root = directory.resolve()
        for script in sorted({each for each in self._scripts() if each not in absent}):
            path = (root / script.lstrip("/")).resolve()
            if path.is_relative_to(root):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        if outside is None:
            return (CodeRoot(Path("/"), root),)
        names = [] if outside == "none" else outside.split(", ")
        return tuple(CodeRoot(Path(name), (root / name.lstrip("/")).resolve()) for name in names)

    def _scripts(self) -> Iterator[str]:
        for each in self.tasks:
            for task in _listed(each, "tasks"):
                script = (task.get("script") or {}).get("boot_file", "")
                if script and ".." not in PurePosixPath(script).parts:
                    yield script

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


def _listed(heard: Heard, name: str) -> list[dict[str, Any]]:
    found = heard.data.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
