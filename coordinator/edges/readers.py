"""What an agent of some version can read of its desired document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from heliograph.bus.contract.payloads import Desired, WorkerTask
from heliograph.bus.contract.versions import Version, left_out, parse_version

READS_TASKS_ALONE: Version = (0, 2)
"""Agents from this version on report a task that they cannot run; earlier ones refuse the whole document for it."""


@dataclass(frozen=True)
class Reader:
    """What is left out for an agent. Equal where two versions read the same.

    Attributes:
        without: fields that it does not know, as pydantic's ``exclude``.
        strict: its version, where it refuses a document for one role that it does not know.
    """

    without: Mapping[str, Any] | None = None
    strict: Version | None = None

    def runs(self, task: WorkerTask) -> bool:
        """Whether the task may stand in its document."""
        return self.strict is None or task.since <= self.strict


@lru_cache(maxsize=1024)
def reader_of(version: str) -> Reader:
    """The reader of a version as agents report it; of the oldest one where an agent has not reported yet. The same
    object each time, so that ten thousand edges are compared by it."""
    number = parse_version(version)
    return Reader(left_out(Desired, number), number if number < READS_TASKS_ALONE else None)
