"""Shrinking the learning jobs of a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.core.names import CLOUD
from heliograph.simulations.fuzz.learning_plan import LearningJob, PairJob
from heliograph.simulations.fuzz.plan import Plan

_LEARNING = LearningJob(name="learn-0", edges=("edge-1",))
_PAIR = PairJob(name="pair-0")
_KEPT = ("name", "edges", "location")
"""Fields that have no simpler value."""


def fewer_learning_jobs(plan: Plan) -> Iterator[Plan]:
    """Leave out learning jobs, then what operators do to those that stay."""
    for place in range(len(plan.learning)):
        yield plan.model_copy(update={"learning": plan.learning[:place] + plan.learning[place + 1 :]})
    for place in range(len(plan.pairs)):
        yield plan.model_copy(update={"pairs": plan.pairs[:place] + plan.pairs[place + 1 :]})
    for place, job in enumerate(plan.learning):
        for act in range(len(job.acts)):
            yield _with_learning(plan, place, acts=job.acts[:act] + job.acts[act + 1 :])


def plainer_learning_jobs(plan: Plan) -> Iterator[Plan]:
    """Replace each special setting of learning jobs by its default, one by one, and halve their samples."""
    for place, job in enumerate(plan.learning):
        for name in LearningJob.model_fields:
            if name not in (*_KEPT, "acts", "samples"):
                yield _with_learning(plan, place, **{name: getattr(_LEARNING, name)})
        if job.samples > 1:
            yield _with_learning(plan, place, samples=job.samples // 2)
        for edge in job.edges if len(job.edges) > 1 else ():
            yield _with_learning(plan, place, edges=tuple(each for each in job.edges if each != edge))
    for place, pair in enumerate(plan.pairs):
        for name in PairJob.model_fields:
            if name not in _KEPT:
                pairs = list(plan.pairs)
                pairs[place] = pair.model_copy(update={name: getattr(_PAIR, name)})
                yield plan.model_copy(update={"pairs": tuple(pairs)})


def learning_without_edge(plan: Plan, edge: str) -> dict[str, object]:
    """Return the learning jobs of a plan that has lost an edge: they use the others, and go where none is left."""
    learning = [
        job.model_copy(update={"edges": edges, "node": CLOUD if job.node == edge else job.node})
        for job in plan.learning if (edges := tuple(each for each in job.edges if each != edge))
    ]  # fmt: skip
    pairs = [job.model_copy(update={"node": CLOUD if job.node == edge else job.node}) for job in plan.pairs]
    return {"learning": tuple(learning), "pairs": tuple(pairs)}


def _with_learning(plan: Plan, place: int, **changes: object) -> Plan:
    learning = list(plan.learning)
    learning[place] = learning[place].model_copy(update=changes)
    return plan.model_copy(update={"learning": tuple(learning)})
