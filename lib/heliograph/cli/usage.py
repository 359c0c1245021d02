"""Errors of use: what was typed cannot be meant, whatever the cluster says. One line each, exit code 2."""

from __future__ import annotations

import sys

import typer

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Base of what typer raises where it cannot make sense of the words."""
EXIT_CODE = 2


def misused(where: str, *, expected: str, got: object) -> typer.BadParameter:
    """An argument or option that is wrong, as an error to raise."""
    from heliograph.core.errors import shorten

    return typer.BadParameter(f"expected {expected}, got {shorten(got)}", param_hint=where)


def explained(error: Exception) -> str:
    """A usage error on one line, with the help that says what would have been right."""
    context = getattr(error, "ctx", None)
    # an error from within a command knows no context; the first word was that command
    command = context.command_path if context is not None else " ".join(["heliograph", *sys.argv[1:2]])
    text = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    text = " ".join(text.replace("Value error, ", "").split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}{'' if text.endswith('?') else '.'} Try '{command} --help'."
