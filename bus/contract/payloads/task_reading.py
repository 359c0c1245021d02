"""Read the tasks of a document one by one: a task that this version cannot run does not affect the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import Refused
from heliograph.core.names import is_label

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads.worker_tasks import WorkerTask


@dataclass(frozen=True)
class UnsupportedTask:
    """A task that this version cannot run, with the fields of it that could be read.

    Attributes:
        worker: the worker's name; if it cannot be read, ``task-3`` for the third task of the document.
        reason: names the field, what this version supports there, and what came.
    """

    worker: str
    role: str
    job: str
    job_uid: str
    revision: int
    reason: str


def read_tasks(given: Sequence[object]) -> tuple[list[WorkerTask], list[UnsupportedTask]]:
    """Return the tasks that can be read, and the others."""
    readable: list[WorkerTask] = []
    unsupported: list[UnsupportedTask] = []
    for number, each in enumerate(given, 1):
        try:
            readable.append(_read_task(each))
        except Refused as error:
            unsupported.append(_unsupported(each, number, error))
    return readable, unsupported


def _read_task(given: object) -> WorkerTask:
    """Return the task. Raises Refused naming the wrong field."""
    from heliograph.bus.contract.payloads.worker_tasks import ROLES, WorkerTaskBase  # loaded for the first task

    if isinstance(given, WorkerTaskBase):
        return cast("WorkerTask", given)
    if not isinstance(given, Mapping):
        raise Refused("invalid", expected="a task mapping", got=given)
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Refused("invalid", field="role", expected=" or ".join(ROLES), got=role)
    try:
        return cast("WorkerTask", ROLES[role].model_validate(given, extra="ignore"))
    except ValidationError as error:
        raise refusal_of(error) from None


def _unsupported(given: object, number: int, error: Refused) -> UnsupportedTask:
    tree = given if isinstance(given, Mapping) else {}
    worker, revision = tree.get("worker"), tree.get("round")
    texts = [tree.get(name) for name in ("role", "job", "job_uid")]
    role, job, uid = (text[:256] if isinstance(text, str) else "" for text in texts)
    return UnsupportedTask(
        worker=worker if isinstance(worker, str) and is_label(worker) else f"task-{number}",
        role=role,
        job=job,
        job_uid=uid,
        revision=revision if type(revision) is int and 0 <= revision < 1 << 63 else 0,
        reason=error.sentence()[:2000],
    )
