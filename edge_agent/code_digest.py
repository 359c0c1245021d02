"""The digest of the code that a script is started with: a model's version records it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.contract import payloads
from heliograph.edge_agent.code_roots import Code

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask

MOST_FILES = 1000
"""Python files below a script's directory, at most: a directory with more of them is no project."""
MOST_BYTES = 16 << 20
"""Bytes of them, at most."""
MOST_SEEN = 20_000
"""Names below a script's directory that are looked at, at most."""


def code_digest_of(task: WorkerTask, code: Code | None) -> str:
    """Return the digest of the code of a task's script, as it lies on this node; empty where it cannot be read.

    Of a package it is the package's own. Else it is the SHA-256 of the lines ``SHA-256, two spaces, path`` of the
    script and of the Python files below the directory that it imports from, sorted by path; of the script's line alone
    where there are too many.
    """
    if isinstance(task, payloads.ScriptTask) and task.package is not None:
        return task.package.digest
    if code is None or code.directory is None:
        return ""
    try:
        files = {code.boot_file, *_sources(code.directory)}
        lines = [_line(file, os.path.relpath(file, code.directory)) for file in files]
    except OSError:
        return ""
    lines.sort(key=lambda line: line.partition("  ")[2])
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _line(file: Path, name: str) -> str:
    with file.open("rb") as content:
        return f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {name}\n"


def _sources(directory: Path) -> list[Path]:
    """Return the Python files below a directory; none where there are too many. Links and hidden directories are passed
    over, and so are environments."""
    found: list[Path] = []
    seen = size = 0
    for place, directories, files in os.walk(directory):
        inner = [name for name in directories if not name.startswith((".", "__"))]
        directories[:] = [name for name in inner if not Path(place, name, "pyvenv.cfg").exists()]
        seen += len(directories) + len(files)
        named = [Path(place, name) for name in files if name.endswith(".py")]
        sources = [file for file in named if not file.is_symlink() and file.is_file()]
        found += sources
        size += sum(file.stat().st_size for file in sources)
        if seen > MOST_SEEN or len(found) > MOST_FILES or size > MOST_BYTES:
            return []
    return found
