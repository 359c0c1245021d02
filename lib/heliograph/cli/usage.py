"""Usage errors: mistakes in the typed command, found without the cluster; one line each, exit code 2."""

from __future__ import annotations

import sys

import typer

from heliograph.cli.exit_codes import NOT_UNDERSTOOD

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Base class of typer's usage errors."""
EXIT_CODE = NOT_UNDERSTOOD
_GROUPS_OF_KINDS = ("jobs", "incremental-jobs", "pair-jobs", "datasets", "models", "algorithms")
_VERBS_OF_ALL = {
    "list": "get {}", "get": "get {}/NAME", "status": "describe {}/NAME", "create": "apply -f FILE",
    "update": "apply -f FILE", "apply": "apply -f FILE",
    **{verb: verb + " {}/NAME" for verb in ("describe", "watch", "start", "stop", "delete")},
}  # fmt: skip
"""What every kind has is a command of its own; a group holds what only its kind has."""


def examples(*lines: str) -> str:
    """Return commands that work as they stand, as the end of a command's help."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def without_command(context: typer.Context) -> None:
    """Show the help of a group of commands that was typed alone; the callback of its app."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_CODE)


def misused(where: str, *, expected: str, got: object) -> typer.BadParameter:
    """Return the usage error for a bad argument or option."""
    from heliograph.core.errors import shorten

    return typer.BadParameter(f"expected {expected}, got {shorten(got)}", param_hint=where)


def explained(error: Exception) -> str:
    """Return a usage error on one line, with a pointer to the command's help."""
    context = getattr(error, "ctx", None)
    # an error raised by a command has no context; the first word names that command
    command = context.command_path if context is not None else " ".join(["heliograph", *sys.argv[1:2]])
    text = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    text = " ".join(text.replace("Value error, ", "").split()).rstrip(".")
    if text.startswith("No such command") and (verb := _verb_of_all(command, sys.argv[2:3])) is not None:
        return f"no such command in '{command}'; type 'heliograph {verb}'."
    if command.endswith(" run") and text.lower().startswith("no such option"):
        text += "; the script's own options stand after --, as in 'heliograph run train.py -- --lr 0.1'"
    return f"{text[:1].lower()}{text[1:]}{'' if text.endswith('?') else '.'} Try '{command} --help'."


def _verb_of_all(command: str, words: list[str]) -> str | None:
    """Return the command that does to any kind what was typed in a kind's group; None if there is none."""
    kind = command.removeprefix("heliograph ")
    if kind == "models" and words == ["rollback"]:
        return "rollback models/NAME"
    if kind not in _GROUPS_OF_KINDS or not words or words[0] not in _VERBS_OF_ALL:
        return None
    return _VERBS_OF_ALL[words[0]].format(kind)
