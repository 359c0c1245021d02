"""The reasons why there is no index of a file."""

from __future__ import annotations

from heliograph.bus.contract.resources.dataset import DatasetIndex
from heliograph.core.text import encodable


class Unusable(Exception):
    """A sentence without its subject: whoever shows it puts the file's path before it."""


class Interrupted(Exception):
    """Nobody waits for the index any more."""


def failed(name: str, error: str) -> DatasetIndex:
    """Return the index of a data set that cannot be read."""
    return DatasetIndex(name=name, error=encodable(error)[:1000])
