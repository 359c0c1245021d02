"""Roots of scripts and of data, as a user names them."""

from __future__ import annotations

from pathlib import Path

from heliograph.core.errors import Refused


def resolved_root(root: Path | str) -> str:
    """Return a root of scripts with its directory absolute: agents have another working directory."""
    prefix, equals, directory = str(root).rpartition("=")
    return f"{prefix}{equals}{resolved_directory(Path(directory), 'code')}"


def resolved_directory(directory: Path, field: str) -> Path:
    """Return a directory, absolute. Raise Refused where there is none."""
    if not directory.is_dir():
        raise Refused("invalid", field=field, expected="a directory that exists", got=str(directory))
    return directory.resolve()
