"""Whether a model may answer on this node: only one that a trusted key has signed, where the agent trusts any."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.model_statement import check_signature
from heliograph.bus.contract.payloads import InferTask, ServingTask, WorkerTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.signing import Envelope

FINDINGS_KEPT = 256
"""Findings about models that are remembered: a node's desired document is decided on again and again."""


class ModelTrust:
    """Checks the signatures of the models that a node serves.

    Training tasks are not concerned: a round's models lie between two versions, and nobody signs them.

    Args:
        trusted: PEM of each trusted public key, by its id; without any, every model may answer.
    """

    def __init__(self, trusted: Mapping[str, str]) -> None:
        self._trusted = trusted
        self._found: dict[tuple[WeightsRef, Envelope | None], str] = {}

    def objection(self, task: WorkerTask) -> str:
        """Return why this node must not serve a task's model; empty where it may."""
        if not self._trusted or not isinstance(task, ServingTask):
            return ""
        why = self._finding(task.model, task.signature) if task.model is not None else ""
        candidate = task.candidate if isinstance(task, InferTask) else None
        if why or candidate is None:
            return why
        return self._finding(candidate.model, candidate.signature)

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
        try:
            check_signature(signature, model, self._trusted)
        except Refused as error:
            return f"{which}: {error}"
        return ""
