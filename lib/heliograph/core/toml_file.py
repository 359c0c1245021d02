"""A file in TOML, as a person has written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heliograph.core.errors import Refused, shorten

MAX_SIZE = 1 << 16
"""Bytes of such a file, at most."""


def read_toml(path: Path, what: str, most: int = MAX_SIZE) -> dict[str, Any]:
    """Return the document of a file. Raise Refused where it cannot be read, is too large, or is no TOML.

    Args:
        what: what the file has to hold, for people: ``a file with the site policy``.
        most: bytes of the file, at most.
    """
    import tomllib  # few processes read such a file, and it stays in memory

    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Refused("invalid", topic=str(path), expected=what, got=error.strerror or str(error)) from None
    if len(content) > most:
        raise Refused("invalid", topic=str(path), expected=f"at most {most} bytes", got="more")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("invalid", topic=str(path), expected="TOML", got=shorten(str(error))) from None
