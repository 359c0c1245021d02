"""The state machine of one task: claimed under leases, labelled, passed over, settled or a conflict. Pure.

Every function takes a task's state and returns the next one, or raises Refused. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.bus.contract.payloads.labels import Annotation, LabelTask, Result, Source, TaskPhase
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.core.errors import Refused
from heliograph.labelling.agreement import LabellerModel, majority
from heliograph.labelling.results import comparable, same_result

_Settled = tuple[TaskPhase, Result | None, float | None]
"""A phase, what the labels agree on, and with which confidence."""


class Lease(Payload):
    """A labeller's claim to a task, until ``expires``."""

    id: Text
    labeller: Text
    source: Source
    expires: float


class StoredLabel(Payload):
    """A label as it is stored.

    Attributes:
        number: its place among the queue's labels, by which labels are published once more after a fault.
        lease: the lease under which it came.
        login: who sent it; nobody else replaces it.
        edge: the edge where it was given, where another one than that of its task has the same sample.
    """

    number: Count
    lease: Text = ""
    login: Text = ""
    edge: Text = ""
    annotation: Annotation


class TaskState(Payload):
    """A task as it is stored.

    Attributes:
        number: place of the task in its queue.
        settled_at: time when its phase last became another than open.
    """

    number: Count
    task: LabelTask
    opens: float = 0.0
    phase: TaskPhase = "open"
    consensus: Result | None = None
    confidence: float | None = None
    settled_at: float = 0.0
    leases: list[Lease] = Field(default_factory=list)
    labels: list[StoredLabel] = Field(default_factory=list)

    @property
    def standing(self) -> list[Annotation]:
        """The labels that count: given, and not replaced by a newer one of their labeller."""
        return [each.annotation for each in self._standing]

    @property
    def standing_by_edge(self) -> dict[str, list[Annotation]]:
        """The labels that count, by ``StoredLabel.edge``."""
        found: dict[str, list[Annotation]] = {}
        for each in self._standing:
            found.setdefault(each.edge, []).append(each.annotation)
        return found

    @property
    def _standing(self) -> list[StoredLabel]:
        replaced = {each.annotation.supersedes for each in self.labels}
        found = [each for each in self.labels if each.annotation.annotation not in replaced]
        return [each for each in found if not each.annotation.skipped]

    def lease_of(self, id: str) -> Lease | None:
        return next((lease for lease in self.leases if lease.id == id), None)


def without_expired(state: TaskState, now: float) -> TaskState:
    """Return the state without leases that have ended."""
    live = [lease for lease in state.leases if lease.expires > now]
    return state if len(live) == len(state.leases) else state.model_copy(update={"leases": live})


def with_present_clock(state: TaskState, latest: float) -> TaskState:
    """Return the state without a lease that ends later than one which is given now: the clock was set back."""
    if all(lease.expires <= latest for lease in state.leases):
        return state
    leases = [lease.model_copy(update={"expires": min(lease.expires, latest)}) for lease in state.leases]
    return state.model_copy(update={"leases": leases})


def needed(state: TaskState, spec: LabelQueueSpec) -> int:
    """Return how many further labellers the task needs beside those that have it now; 0 where it is settled."""
    if state.phase != "open":
        return 0
    given = len(state.standing)
    wanted = spec.overlap if given < spec.overlap else spec.overlap + spec.agreement.extra
    return max(0, wanted - given - len(state.leases))


def has_seen(state: TaskState, labeller: str) -> bool:
    """Return whether a labeller has, or has had, the task: labelled, passed over, or under a lease now."""
    return any(each.annotation.labeller == labeller for each in state.labels) or any(
        lease.labeller == labeller for lease in state.leases
    )


def claimed(state: TaskState, lease: Lease) -> TaskState:
    """Return the state with one more lease."""
    return state.model_copy(update={"leases": [*state.leases, lease]})


def renewed(state: TaskState, id: str, expires: float) -> TaskState:
    """Return the state with a lease that ends later."""
    leases = [lease.model_copy(update={"expires": expires}) if lease.id == id else lease for lease in state.leases]
    return state.model_copy(update={"leases": leases})


def released(state: TaskState, id: str) -> TaskState:
    """Return the state without a lease."""
    return state.model_copy(update={"leases": [lease for lease in state.leases if lease.id != id]})


def labelled(
    state: TaskState, label: StoredLabel, spec: LabelQueueSpec, model: LabellerModel, now: float
) -> TaskState:
    """Return the state with one more label: settled where the labels agree, a conflict where no further labeller is
    asked. A label that replaces another of its labeller decides again.

    Raise Refused where the replaced label is not there, is replaced already, or is another labeller's or edge's.
    """
    if label.annotation.supersedes:
        _check_replaced(state, label)
    state = released(state, label.lease).model_copy(update={"labels": [*state.labels, label]})
    if label.annotation.skipped:
        return state
    phase, consensus, confidence = _settled(state, spec, model)
    changed = phase != state.phase or state.phase != "open"
    state = state.model_copy(
        update={
            "phase": phase,
            "consensus": consensus,
            "confidence": confidence,
            "settled_at": now if phase != "open" and changed else state.settled_at,
            "leases": state.leases if phase == "open" else [],
        }
    )
    told = label.annotation.model_copy(update={"phase": phase, "consensus": consensus})
    labels = [*state.labels[:-1], label.model_copy(update={"annotation": told})]
    return state.model_copy(update={"labels": labels})


def _settled(state: TaskState, spec: LabelQueueSpec, model: LabellerModel) -> _Settled:
    """Return the phase that a task's labels lead to, what they agree on, and with which confidence.

    Each edge that has the sample asks its own labellers: the task is settled once one edge's labels settle it, and a
    conflict where those of several edges settle it differently.
    """
    known = [each for each in state.standing if each.ground_truth]
    if known:
        return "labelled", known[-1].result, 1.0
    found = [_settled_on_one_edge(labels, spec, model) for labels in state.standing_by_edge.values()]
    settled = [each for each in found if each[0] != "open"]
    if not settled:
        return "open", None, None
    first = settled[0][1]
    agreed = all(result is not None and first is not None and same_result(result, first, spec.label_schema)
                 for _, result, _ in settled)  # fmt: skip
    return settled[0] if agreed or len(settled) == 1 else ("conflict", None, None)


def _settled_on_one_edge(standing: list[Annotation], spec: LabelQueueSpec, model: LabellerModel) -> _Settled:
    accepted = [each for each in standing if each.source == "model" and each.parent_prediction]
    if accepted and len(accepted) == len(standing):
        result = accepted[-1].result
        return "labelled", result, result.score if result is not None else None
    if len(standing) < spec.overlap:
        return "open", None, None
    agreed = _agreed(standing, spec, model)
    if agreed is not None and agreed[1] > spec.agreement.least:
        return "labelled", *agreed
    if len(standing) < spec.overlap + spec.agreement.extra:
        return "open", None, None
    return "conflict", None, agreed[1] if agreed is not None else None


def _agreed(standing: list[Annotation], spec: LabelQueueSpec, model: LabellerModel) -> tuple[Result, float] | None:
    """Return the result that the rule finds, and its share or probability."""
    schema = spec.label_schema
    results = {each.labeller: each.result for each in standing if each.result is not None}
    if spec.agreement.method == "dawid-skene" and schema.type == "choice":
        likely = model.posterior({who: str(comparable(result)) for who, result in results.items()})
        if likely:
            best = max(likely, key=likely.__getitem__)
            return Result(type="choice", value=best), likely[best]
    same: Callable[[int, int], bool] = lambda one, other: same_result(given[one], given[other], schema)  # noqa: E731
    given = list(results.values())
    found = majority({str(place): place for place in range(len(given))}, same)
    return (given[found[0]].model_copy(update={"score": None}), found[1]) if found is not None else None


def _check_replaced(state: TaskState, label: StoredLabel) -> None:
    replaced, labeller = label.annotation.supersedes, label.annotation.labeller
    found = next((each for each in state.labels if each.annotation.annotation == replaced), None)
    if found is None:
        raise Refused("unknown-label", field="supersedes", expected="a label of this task", got=replaced)
    if found.edge != label.edge:
        raise Refused("not-yours", field="supersedes", expected="a label that was given on the same edge",
                      got=replaced)  # fmt: skip
    if (found.annotation.labeller, found.login) != (labeller, label.login):
        raise Refused("not-yours", field="supersedes", expected=f"a label that {labeller} sent by the login "
                      f"{label.login or 'none'}", got=f"one of {found.annotation.labeller}")  # fmt: skip
    if any(each.annotation.supersedes == replaced for each in state.labels):
        raise Refused("superseded", field="supersedes", expected="a label that stands", got=replaced,
                      hint="Replace the newest one of yours.")  # fmt: skip
