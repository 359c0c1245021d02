"""Whether a model may answer on this node: only one that a trusted key has signed, where the agent trusts any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads
from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask
    from heliograph.core.signing import Envelope

FINDINGS_KEPT = 256
"""Findings about models that are remembered: a node's desired document is decided on again and again."""
MAX_REASON = 1000
"""Characters of the reason that a worker gets, at most."""


class ModelTrust:
    """Checks the signatures of the models that a node serves.

    Training tasks are not concerned: a round's models lie between two versions, and nobody signs them.

    Args:
        trusted: PEM of each trusted public key, by its id; without any, every model may answer.
        from_elsewhere: returns a task without the versions that this node has trained itself: these may answer.
    """

    def __init__(
        self, trusted: Mapping[str, str], from_elsewhere: Callable[[WorkerTask], WorkerTask] = lambda task: task
    ) -> None:
        self._trusted = trusted
        self._from_elsewhere = from_elsewhere
        self._found: dict[tuple[WeightsRef, Envelope | None], str] = {}

    def objection(self, task: WorkerTask) -> str:
        """Return why this node must not serve a task's model; empty where it may."""
        if not self._trusted:
            return ""
        task = self._from_elsewhere(task)
        if not isinstance(task, payloads.ServingTask) or task.model is None:
            return ""
        return self._finding(task.model, task.signature)

    def applied(self, desired: Desired) -> Desired:
        """Return the desired document whose tasks say of each candidate that must not answer here why: its worker
        serves the model, and counts the candidate as rejected."""
        if not self._trusted:
            return desired
        tasks: list[WorkerTask] = [self._with_refusal(task) for task in desired.tasks]
        return desired.model_copy(update={"tasks": tasks})

    def _with_refusal(self, task: WorkerTask) -> WorkerTask:
        checked = self._from_elsewhere(task)
        if not isinstance(task, payloads.InferTask) or not isinstance(checked, payloads.InferTask):
            return task
        if task.candidate is None or checked.candidate is None:
            return task
        why = self._finding(checked.candidate.model, checked.candidate.signature)
        if not why:
            return task
        return task.model_copy(update={"candidate": task.candidate.model_copy(update={"refused": why[:MAX_REASON]})})

    def _finding(self, model: WeightsRef, signature: Envelope | None) -> str:
        key = (model, signature)
        if key not in self._found:
            if len(self._found) >= FINDINGS_KEPT:
                self._found.clear()
            self._found[key] = self._check(model, signature)
        return self._found[key]

    def _check(self, model: WeightsRef, signature: Envelope | None) -> str:
        which = f"model {model.digest[:12]}"
        if signature is None:
            return f"{which} has no signature, and this agent serves signed models alone (--model-keys)"
        from heliograph.bus.contract.model_statement import check_signature  # loaded for the first signed model

        try:
            check_signature(signature, model, self._trusted)
        except Refused as error:
            return f"{which}: {error}"
        return ""
