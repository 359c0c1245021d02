"""The counts of a queue for its status: how far it is, and how its labellers agree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from heliograph.bus.contract.resources import Condition, condition
from heliograph.bus.contract.resources.label_queue import (
    LABELLERS_SHOWN,
    LabellerNumbers,
    LabelQueueStatus,
    LabelSchema,
)
from heliograph.labelling.agreement import LabellerModel, agreeing_share, dawid_skene, krippendorff_alpha, one_class
from heliograph.labelling.task_queue import TaskQueue

LEAST_LABELS = 10
"""Tasks with labels of several labellers before their errors are estimated."""


@dataclass(frozen=True)
class Agreement:
    """How a queue's labellers agree.

    Attributes:
        model: Dawid and Skene's estimate; empty where the labels are no choices, or too few.
        always: by labeller, the one class that it gives.
    """

    alpha: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    model: LabellerModel = field(default_factory=LabellerModel)
    always: Mapping[str, Hashable] = field(default_factory=dict)


def agreement_of(labels: Sequence[Mapping[str, Hashable]], schema: LabelSchema) -> Agreement:
    """Compute the agreement of a queue's labels, in time in proportion to their number."""
    several = [each for each in labels if len(each) > 1]
    model = LabellerModel()
    if schema.type == "choice" and len(several) >= LEAST_LABELS:
        model = dawid_skene([{who: str(label) for who, label in each.items()} for each in labels])
    alpha = krippendorff_alpha(several, "interval" if schema.type == "number" else "nominal")
    return Agreement(alpha, agreeing_share(several), model, one_class(several))


def status_of(queue: TaskQueue, found: Agreement, before: LabelQueueStatus, now: str) -> LabelQueueStatus:
    """Return the status of a queue."""
    index = queue.index
    phases = [each.phase for each in index.summaries.values()]
    most = sorted(queue.labels.labellers.items(), key=lambda each: (-each[1].labels, each[0]))[:LABELLERS_SHOWN]
    labellers = {
        name: LabellerNumbers(
            source=count.source,
            labels=count.labels,
            skipped=count.skipped,
            agreement=_rounded(found.shares.get(name)),
            accuracy=_rounded(found.model.accuracy(name)) if name in found.model.says else None,
            lead_seconds=_rounded(count.seconds / count.timed) if count.timed else None,
            one_class=str(found.always[name]) if name in found.always else None,
        )
        for name, count in most
    }
    leased = index.leased
    return LabelQueueStatus(
        waiting=len(index.open) - leased,
        later=index.later,
        leased=leased,
        labelled=phases.count("labelled"),
        conflicts=phases.count("conflict"),
        labels=sum(each.labels for each in queue.labels.labellers.values()),
        repeated=queue.repeated,
        left_out=queue.left_out,
        alpha=_rounded(found.alpha),
        bar=_rounded(index.bar),
        labellers=labellers,
        conditions=_conditions(queue, found, before, now),
    )


def _conditions(queue: TaskQueue, found: Agreement, before: LabelQueueStatus, now: str) -> list[Condition]:
    most, there = queue.spec.most_tasks, len(queue.index.open)
    room = Condition(type="Room", status="True", reason="HasRoom")
    if there >= most:
        room = Condition(type="Room", status="False", reason="Full", message=f"{there} open tasks, as many as the "
                         "queue takes; further samples are left out. Label some, or raise spec.mostTasks")  # fmt: skip
    agree = Condition(type="LabellersDiffer", status="True", reason="SeveralClasses")
    if found.always:
        lines = [f"{name} gives {label} to every task, where others give several classes"
                 for name, label in sorted(found.always.items())]  # fmt: skip
        agree = Condition(type="LabellersDiffer", status="False", reason="OneClass", message="; ".join(lines)[:2000])
    return condition(condition(before.conditions, room, now), agree, now)


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if value is not None else None
