"""The bounds of packages of code, and the names that files in one may have."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

MANIFEST = "heliograph-package.json"
"""The file of a package that says how to run it."""
MAX_SIZE = 64 << 20
"""Bytes of a package, at most: it is code, and the data lies on the edges."""
MAX_FILES = 4096
MAX_NAME = 512
"""Bytes of a file's path, at most."""
_MAX_PART = 255
_LEFT_OUT = frozenset({"__MACOSX", "__pycache__", "heliograph-runs"})
PATH_RULE = (
    f"a relative path with /, of at most {MAX_NAME} bytes, without '..', hidden parts, __pycache__ and control "
    "characters"
)


def is_left_out(part: str) -> bool:
    """Return whether no package contains a file or directory of this name.

    Hidden files may hold secrets, and a compiled file of ``__pycache__`` may do another thing than the source beside it
    that somebody has read.
    """
    return part.startswith(".") or part in _LEFT_OUT


def is_path(name: str) -> bool:
    """Return whether a file in a package may have this path; see ``PATH_RULE``."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    parts = name.split("/")
    return (
        0 < size <= MAX_NAME
        and "\\" not in name
        and name.isprintable()
        and not any(not part or is_left_out(part) or len(part.encode()) > _MAX_PART for part in parts)
    )


def collision(names: Iterable[str]) -> str:
    """Return a path that cannot lie beside the others: it is there twice on a disk that ignores case, or is a file and
    a directory. Empty where there is none."""
    seen: dict[str, str] = {}
    directories: dict[str, None] = {}
    for name in names:
        folded = _folded(name)
        if folded in seen:
            return name
        seen[folded] = name
        directories |= {_folded(str(parent)): None for parent in PurePosixPath(name).parents}
    return next((name for folded, name in seen.items() if folded in directories), "")


def check_entry_point(name: str) -> str:
    """Return the path of a package's script. Raise ValueError where no package has one there."""
    if not is_path(name) or not name.endswith(".py"):
        raise ValueError(f"expected the path of a Python file in the package: {PATH_RULE}")
    return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
