"""Files that their user alone may read: journals, models, data, and configuration with passwords."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Let files that this process and its children create be readable by their user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def write_private(file: Path, text: str) -> None:
    """Write a file that its user alone may read, whatever the umask, all of it or nothing."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
        target.write(text)
    partial.replace(file)


def write_first(file: Path, text: str, mark: str) -> None:
    """Write a file that its user alone may read, unless another process has made it meanwhile: then that one holds.

    Args:
        mark: text that no other process uses.
    """
    made = file.with_name(f".{file.name}.{mark[:12]}")
    write_private(made, text)
    with contextlib.suppress(FileExistsError):
        file.hardlink_to(made)
    made.unlink()


def make_private(directory: Path) -> Path:
    """Make a directory that its user alone may enter, so that files of an earlier release in it are private too.

    Return the directory. Leave the permissions of a directory that belongs to another user: a volume of a pod, say.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        directory.chmod(0o700)
    return directory
