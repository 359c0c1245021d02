"""Text that any stream, log and document can carry."""

from __future__ import annotations

import sys
from collections.abc import Callable


def encodable(text: str) -> str:
    """Return ``text`` with each lone surrogate written as an escape: no encoding has bytes for it."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def decode_leniently(text: bytes) -> str:
    """Decode UTF-8, damaged bytes as U+FFFD: a checksum of the text then differs, and the reader goes on."""
    return text.decode(errors="replace")


def print_line(line: str) -> None:
    """Print a line on stdout, flushed at once. Write characters that stdout's encoding lacks as escapes."""
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def never_raising(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``say`` for a process that outlives its output: a full disk or a closed pipe must not end it."""

    def say_if_possible(line: str) -> None:
        try:
            say(encodable(line))
        except UnicodeEncodeError:
            say_if_possible(line.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):  # nobody can be informed: the line was the report
            return

    return say_if_possible
