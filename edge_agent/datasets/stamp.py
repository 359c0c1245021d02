"""A stamp of a file or directory: it differs once the content may have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 10_000
"""Files of a directory that are looked at one by one. Of more, only what comes, goes or is renamed is noticed."""
MAX_DEPTH = 8

Stamp = tuple[int, int, int] | str | None


def stamp_of(path: Path) -> Stamp:
    """Return a file's time of the last change, size and number, a directory's digest of those of all that is in it, or
    None where there is nothing."""
    try:
        if not path.is_dir():
            found = path.stat()
            return found.st_mtime_ns, found.st_size, found.st_ino
        files = list[str]()
        whole = hashlib.sha256()
        for each, is_file in _walked(str(path), 0):
            if is_file:
                if len(files) <= MOST_FILES:
                    files.append(each)
            else:
                whole.update(_line(each))
        if len(files) <= MOST_FILES:
            for each in sorted(files):
                whole.update(_line(each))
        return whole.hexdigest()
    except (OSError, ValueError):
        return None


def _walked(path: str, depth: int) -> Iterator[tuple[str, bool]]:
    yield path, False
    if depth > MAX_DEPTH:
        return
    with os.scandir(path) as entries:
        found = sorted((each.path, each.is_dir()) for each in entries)
    for inner, is_directory in found:
        if is_directory:
            yield from _walked(inner, depth + 1)
        else:
            yield inner, True


def _line(path: str) -> bytes:
    try:
        found = os.stat(path)  # noqa: PTH116 a scan names thousands
    except FileNotFoundError:
        return b""
    return f"{path}\0{found.st_mtime_ns}\0{found.st_size}\0{found.st_ino}\n".encode("utf-8", "surrogateescape")
