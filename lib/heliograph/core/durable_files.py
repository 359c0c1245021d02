"""Files that are on the disk before anything relies on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_durably(target: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file, all of it or nothing, also where the machine loses its power."""
    unfinished = target.with_name(f"{target.name}.part")
    with unfinished.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
