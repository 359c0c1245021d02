"""The reasons why there is no index of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.bus.contract import resources
from heliograph.core.text import encodable

if TYPE_CHECKING:
    from heliograph.bus.contract.resources import DatasetIndex


class Unusable(Exception):
    """A sentence without its subject: whoever shows it puts the file's path before it."""


class Interrupted(Exception):
    """Nobody waits for the index any more."""


def failed(name: str, error: str) -> DatasetIndex:
    """Return the index of a data set that cannot be read."""
    return resources.DatasetIndex(name=name, error=encodable(error)[:1000])
