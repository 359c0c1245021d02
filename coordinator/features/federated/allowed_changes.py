"""Which changes of a federated task its phase allows. Pure: each function raises Refused, or returns."""

from __future__ import annotations

from heliograph.bus.contract.resources import ENDED, FederatedTask
from heliograph.core.errors import Refused

_LIVE_FIELDS = {"rounds", "quorum", "round_deadline_seconds", "priority", "stop", "best"}
"""The fields of a running task's spec that may change."""


def check_change(known: FederatedTask, wanted: FederatedTask, topic: str) -> None:
    """Refuse a change of a task that has ended, and of a running one's fields that all rounds share."""
    if known.status.phase == "Pending":
        return
    if known.status.phase in ENDED:
        raise Refused("ended", topic=topic, field="metadata.name", expected="a task that has not ended",
                      got=f"{known.name} is {known.status.phase}", hint="Delete it to run it again.")  # fmt: skip
    fields = type(known.spec).model_fields
    frozen = [name for name in fields
              if name not in _LIVE_FIELDS and getattr(known.spec, name) != getattr(wanted.spec, name)]  # fmt: skip
    if frozen:
        live = ", ".join(str(fields[name].alias) for name in sorted(_LIVE_FIELDS))
        raise Refused("running", topic=topic, field=f"spec.{fields[frozen[0]].alias}", got="another value",
                      expected=f"no change while it runs (only {live} may)")  # fmt: skip


def check_restart(task: FederatedTask, topic: str) -> None:
    """Refuse to start a task again that has reached its goal."""
    if task.status.phase == "Succeeded":
        expected, hint = "a job that was stopped or has failed", "Create another job to train the model further."
        raise Refused("ended", topic=topic, field="name", expected=expected, got=f"{task.name} is Succeeded",
                      hint=hint)  # fmt: skip
