"""Text that any stream, log and document can carry."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable


def encodable(text: str) -> str:
    """Return ``text`` with each lone surrogate written as an escape: no encoding has bytes for it."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def harmless(text: str, coloured: bool = False) -> str:
    """Return ``text`` with characters that command a terminal, or turn the direction of writing, as escapes. Keep line
    ends and tabs; with ``coloured`` colours too."""
    return (_COMMANDS_BUT_COLOURS if coloured else _COMMANDS).sub(_escape, text)


def one_line(text: str) -> str:
    """Return ``text`` as one line that commands no terminal: nobody whose words it has can forge another line."""
    return harmless(encodable(text)).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_COMMANDS_BUT_COLOURS = re.compile(rf"(?!\x1b\[[0-9;]*m){_COMMANDS.pattern}")


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


def say_line(line: str) -> None:
    """Print a line of a process that outlives its reader: what cannot be printed is dropped."""
    _say_line(line)


def never_raising(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``say`` for a process that outlives its output: a full disk or a closed pipe must not end it. A call says
    one line, whoever's words it has."""

    def say_if_possible(line: str) -> None:
        try:
            say(one_line(line))
        except UnicodeEncodeError:
            say_if_possible(line.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):  # nobody can be informed: the line was the report
            return

    return say_if_possible


_say_line = never_raising(print_line)
