"""Paths of files that an index file names: below its directory, and nowhere else."""

from __future__ import annotations

from pathlib import PurePosixPath

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.unusable import Unusable


def require_beside(path: str, where: str) -> str:
    """Return a path without ``.`` and doubled slashes.

    Raise Unusable unless it is a relative one without ``..`` and control characters.

    Args:
        where: the place in the index, for the sentence.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or any(ord(each) < 32 for each in path):
        raise Unusable(f"names {shorten(path)!r} {where}, which is no path below its directory; "
                       "name files beside it, or in directories below")  # fmt: skip
    return str(PurePosixPath(*parts))
