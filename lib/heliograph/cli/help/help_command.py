"""``help``: the help of a command, the page of an exit code, cause and cure of an error's code."""

from __future__ import annotations

from typing import Annotated

import typer

from heliograph.cli.usage import examples, misused

ALL = "exit-codes"
_HELP = """Explain a command, an exit code or an error's code.

WORD is a command (get, trace record), an exit code (5), exit-codes for all of them, or the code of an error as a reply
carries it (not-found)."""


def register(app: typer.Typer) -> None:
    app.command("help", help=_HELP, epilog=examples("heliograph help 5", "heliograph help trace record"))(help_)


def help_(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...", help="What to explain.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print an exit code's page for docs/.")] = False,
) -> None:
    from heliograph.cli.exit_codes import EXIT_CODES
    from heliograph.cli.help import help_texts

    asked = " ".join(words or ())
    if markdown and asked != ALL and asked not in map(str, EXIT_CODES):
        raise misused("WORD", expected=f"an exit code or {ALL}, with --markdown", got=asked or "nothing")
    if asked == ALL:
        text = help_texts.table(markdown)
    elif asked.isdecimal():
        if asked not in map(str, EXIT_CODES):
            raise misused("WORD", expected=f"an exit code of {', '.join(map(str, EXIT_CODES))}", got=asked)
        text = help_texts.page(EXIT_CODES[int(asked)], markdown)
    else:
        text = _of_command(context, words or []) or help_texts.error_code(asked)
    if not text:
        raise misused("WORD", expected="a command, an exit code, or the code of an error", got=asked)
    typer.echo(text, nl=not text.endswith("\n"))


def _of_command(context: typer.Context, words: list[str]) -> str:
    """Return a command's help; empty where there is no such command."""
    from heliograph.cli import process_options, serve

    if len(words) == 1 and words[0] in process_options.COMMANDS:
        serve.main([words[0], "--help"])  # prints it, and ends
    found = context.find_root()
    for word in words:
        command = found.command
        following = command.get_command(found, word) if hasattr(command, "get_command") else None
        if following is None:
            return ""
        found = typer.Context(following, info_name=word, parent=found)
    return found.get_help()
