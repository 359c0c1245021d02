"""Shrinking a failing plan to a small one that still fails. Pure, except for the runs that it requests.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over the faults, then
over edges and jobs, then simpler numbers. Changes are tried from the largest to the smallest until none fails any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from heliograph.simulations.fuzz.plan import Edge, Fault, Job, Plan
from heliograph.simulations.fuzz.shrink_learning import (
    fewer_learning_jobs,
    learning_without_edge,
    plainer_learning_jobs,
)

MOST = 300
"""Largest number of runs for shrinking."""


@dataclass(frozen=True)
class Shrunk:
    """The smallest plan found, with the number of runs."""

    plan: Plan
    runs: int


def shrink(plan: Plan, fails: Callable[[Plan], bool], most: int = MOST) -> Shrunk:
    """Return a plan for which ``fails`` is true and that no single simplification keeps failing, unless ``most`` runs
    are used up before."""
    runs = 0
    smaller = True
    while smaller:
        smaller = False
        for simplify in (
            _fewer_faults, _fewer_hostiles, fewer_learning_jobs, _fewer_edges, _fewer_jobs, _fewer_rounds, _plainer,
            plainer_learning_jobs, _simpler_faults,
        ):  # fmt: skip
            again = True
            while again:
                again = False
                for candidate in simplify(plan):
                    if candidate == plan or not candidate.is_consistent():
                        continue
                    if runs >= most:
                        return Shrunk(plan, runs)
                    runs += 1
                    if fails(candidate):
                        plan, again, smaller = candidate, True, True
                        break
    return Shrunk(plan, runs)


def _fewer_faults(plan: Plan) -> Iterator[Plan]:
    """Leave out all faults, a half, a quarter … one of them."""
    count = len(plan.faults)
    size = count
    while size:
        for first in range(0, count, size):
            yield plan.model_copy(update={"faults": plan.faults[:first] + plan.faults[first + size :]})
        size //= 2


def _fewer_hostiles(plan: Plan) -> Iterator[Plan]:
    """Leave out hostile edges with their acts, single acts, and half of an act's messages."""
    for rogue in plan.rogues:
        yield plan.model_copy(update={
            "rogues": tuple(each for each in plan.rogues if each != rogue),
            "hostiles": tuple(each for each in plan.hostiles if each.target != rogue),
        })  # fmt: skip
    for place, act in enumerate(plan.hostiles):
        before, after = plan.hostiles[:place], plan.hostiles[place + 1 :]
        yield plan.model_copy(update={"hostiles": (*before, *after)})
        if act.count > 1:
            yield plan.model_copy(
                update={"hostiles": (*before, act.model_copy(update={"count": act.count // 2}), *after)}
            )


def _fewer_edges(plan: Plan) -> Iterator[Plan]:
    for removed in plan.edges[::-1] if len(plan.edges) > 1 else ():
        left = tuple(each for each in plan.edges if each is not removed)
        yield plan.model_copy(update={
            "edges": left,
            "faults": tuple(each for each in plan.faults if each.target != removed.name),
            "hostiles": tuple(each for each in plan.hostiles if each.target != removed.name),
            "jobs": tuple(_at_most(each, len(left)) for each in plan.jobs),
            **learning_without_edge(plan, removed.name),
        })  # fmt: skip


def _at_most(job: Job, edges: int) -> Job:
    return job.model_copy(update={
        "participants": min(job.participants, edges) if job.participants else None,
        "quorum": min(job.quorum, edges) if job.quorum else None,
    })  # fmt: skip


def _fewer_jobs(plan: Plan) -> Iterator[Plan]:
    for place in range(len(plan.jobs) if len(plan.jobs) > 1 else 0):
        yield plan.model_copy(update={"jobs": plan.jobs[:place] + plan.jobs[place + 1 :]})


def _fewer_rounds(plan: Plan) -> Iterator[Plan]:
    for place, job in enumerate(plan.jobs):
        for rounds in range(1, job.rounds):
            yield _with_job(plan, place, rounds=rounds)


def _plainer(plan: Plan) -> Iterator[Plan]:
    """Replace each special setting of jobs, edges and disks by its default, one by one."""
    yield plan.model_copy(update={"disk_seconds": 0.0})
    for place, job in enumerate(plan.jobs):
        yield _with_job(plan, place, quorum=None)
        yield _with_job(plan, place, participants=None)
        yield _with_job(plan, place, name=f"tiny-{job.name.partition('-')[2]}")
        yield _with_job(plan, place, at=0.0)
        yield _with_job(plan, place, at=float(round(job.at)))
    for place, edge in enumerate(plan.edges):
        plain = Edge(name=edge.name, every=0.0)  # an edge without a device
        for name in ("every", "speed", "latency"):
            edges = list(plan.edges)
            edges[place] = edge.model_copy(update={name: getattr(plain, name)})
            yield plan.model_copy(update={"edges": tuple(edges)})


def _simpler_faults(plan: Plan) -> Iterator[Plan]:
    """Make faults shorter, and round their times and amounts."""
    for place, fault in enumerate(plan.faults):
        before, after = plan.faults[:place], plan.faults[place + 1 :]
        for changed in _simpler(fault):
            yield plan.model_copy(update={"faults": (*before, changed, *after)})


def _simpler(fault: Fault) -> Iterator[Fault]:
    for steps in {0: None, fault.steps // 2: None}:
        if steps < fault.steps:
            yield fault.model_copy(update={"steps": steps})
    for digits in (0, 1):
        yield fault.model_copy(update={"at": round(fault.at, digits)})
        yield fault.model_copy(update={"amount": round(fault.amount, digits)})
        if (duration := round(fault.duration, digits)) < fault.duration:
            yield fault.model_copy(update={"duration": duration})
    if fault.duration > 0.2:
        yield fault.model_copy(update={"duration": round(fault.duration / 2, 2)})


def _with_job(plan: Plan, place: int, **changes: object) -> Plan:
    jobs = list(plan.jobs)
    jobs[place] = jobs[place].model_copy(update=changes)
    return plan.model_copy(update={"jobs": tuple(jobs)})
