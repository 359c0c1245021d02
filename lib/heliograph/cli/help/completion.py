"""``completion``: the script by which a shell completes commands, options, kinds and names."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from heliograph.cli.usage import examples

_VARIABLE = "_HELIOGRAPH_COMPLETE"
_COMPLETION = """Print the script by which a shell completes words.

It completes commands, options, kinds and names of resources. For this session: source <(heliograph completion bash).
For all: append the script to ~/.bashrc, or the shell's own file; --install-completion does that. Names come from the
cluster, as for --server."""


def register(app: typer.Typer) -> None:
    app.command(help=_COMPLETION, epilog=examples("source <(heliograph completion bash)"))(completion)


def completion(
    context: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell", "pwsh"], typer.Argument(help="The shell.")],
) -> None:
    os.environ[_VARIABLE] = f"source_{shell}"
    try:
        context.find_root().command.main([], prog_name="heliograph")  # prints the script, and ends
    finally:
        del os.environ[_VARIABLE]
