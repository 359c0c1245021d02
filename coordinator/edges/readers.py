"""The part of a desired document that an agent's version can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from heliograph.bus.contract.payloads import Desired
from heliograph.bus.contract.versions import left_out, parse_version


@dataclass(frozen=True)
class Reader:
    """Fields that are left out for an agent, as pydantic's ``exclude``. Equal for two versions that read the same.

    An agent reports a task or a data set that its version does not support.
    """

    without: Mapping[str, Any] | None = None


@lru_cache(maxsize=1024)
def reader_of(version: str) -> Reader:
    """Return the reader of a reported version; an empty version counts as the oldest. Each version has one object, so
    that comparing it for ten thousand edges is cheap."""
    return Reader(left_out(Desired, parse_version(version)))
