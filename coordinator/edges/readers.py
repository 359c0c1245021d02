"""The part of a desired document that an agent's version can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from heliograph.bus.contract.payloads import Desired, WorkerTask
from heliograph.bus.contract.resources import DatasetSpec
from heliograph.bus.contract.resources.dataset import FIRST_FORMATS
from heliograph.bus.contract.versions import Version, left_out, parse_version

READS_TASKS_ALONE: Version = (0, 2)
"""From this version on, agents report a task that they cannot run; earlier agents refuse the whole document."""


@dataclass(frozen=True)
class Reader:
    """Fields and roles that are left out for an agent. Equal for two versions that read the same.

    Attributes:
        without: fields that the agent does not know, as pydantic's ``exclude``.
        strict: the agent's version, if one unknown role makes it refuse the whole document; else None.
    """

    without: Mapping[str, Any] | None = None
    strict: Version | None = None

    def runs(self, task: WorkerTask) -> bool:
        """Return whether the agent can read a document with this task."""
        return self.strict is None or task.since <= self.strict

    def indexes(self, dataset: DatasetSpec) -> bool:
        """Return whether the agent can read a document with this data set."""
        return self.strict is None or dataset.format in FIRST_FORMATS


@lru_cache(maxsize=1024)
def reader_of(version: str) -> Reader:
    """Return the reader of a reported version; an empty version counts as the oldest. Each version has one object, so
    that comparing it for ten thousand edges is cheap."""
    number = parse_version(version)
    return Reader(left_out(Desired, number), number if number < READS_TASKS_ALONE else None)
