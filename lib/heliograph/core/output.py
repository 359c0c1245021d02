"""A process's own stdout and stderr: they take any text, in whatever encoding, and may outlive their reader or disk.

Everything that prints goes through them: our lines, help texts, frameworks, tracebacks of Python and of asyncio.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from heliograph.core.text import harmless

FIRST_FREE = 3
"""The first file descriptor that is none of stdin, stdout and stderr."""


class Output(io.TextIOWrapper):
    """A stream of text. What its encoding lacks is written as escapes.

    Args:
        endures: whether text that cannot be written is dropped: a full disk and a closed pipe raise nothing.
        plain: whether characters that command a terminal are written as escapes.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str, endures: bool, plain: bool) -> None:
        options = {"encoding": stream.encoding, "line_buffering": stream.line_buffering,
                   "write_through": stream.write_through}  # fmt: skip
        super().__init__(stream.detach(), errors="backslashreplace", **options)  # type: ignore[arg-type]
        self._told_as = name
        self._endures = endures
        self._plain = plain

    def write(self, text: str, /) -> int:
        try:
            super().write(harmless(text) if self._plain else text)
        except (OSError, ValueError) as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: OSError | ValueError) -> None:
        if self._endures:
            return
        if isinstance(error, OSError) and error.filename is None:
            error.filename = self._told_as
        raise error


def prepare_output(endures: bool) -> None:
    """Let this process print any text, whatever its locale and wherever its output goes.

    Args:
        endures: whether the process outlives its output: what cannot be printed is dropped.
    """
    _take_closed_descriptors()
    for name, told_as, lasts in (("stdout", "standard output", endures), ("stderr", "standard error", True)):
        stream = getattr(sys, name)
        if stream is None:  # who started this process has closed it
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it lives as long as the process
        if type(stream) is io.TextIOWrapper:  # else somebody catches what is printed
            output = Output(stream, told_as, lasts, plain=endures and name == "stderr")
            setattr(sys, name, output)
            setattr(sys, f"__{name}__", output)


def end_output() -> OSError | None:
    """Write what stdout still has, at the process's end. Return the error where it cannot; Python's own last attempt
    says nothing then."""
    failed: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failed = failed or error
        except (ValueError, AttributeError):
            continue  # it is closed, or there is none
    if failed is not None or isinstance(sys.stdout, Output):
        _discard_what_is_left()
    return failed


def _discard_what_is_left() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _take_closed_descriptors() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no file or socket gets their numbers: a library that
    prints would write into it."""
    taken = os.open(os.devnull, os.O_RDWR)
    while taken < FIRST_FREE:
        os.set_inheritable(taken, True)
        taken = os.open(os.devnull, os.O_RDWR)
    os.close(taken)
