"""``heliograph``: kubectl's verbs for federated, incremental and joint jobs, and the processes themselves."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from heliograph.cli import clusters, resources, serve, topics, usage

# no rich help and no rich tracebacks: importing rich would cost a third of the start
app = typer.Typer(name="heliograph", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for module in (clusters, resources, topics, serve):
    module.register(app)


@app.callback(
    invoke_without_command=True,
    help="Models trained and served on edges and in the cloud together, over MQTT and NATS.",
    epilog="Exit code: 0 done, 1 refused or failed, 2 not understood; watch has its own.",
)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from heliograph import __version__

        typer.echo(f"heliograph {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(usage.EXIT_CODE)


def main() -> None:
    """Entry of the command; what is expected to go wrong is one line on stderr."""
    try:
        code = app(prog_name="heliograph", standalone_mode=False)
    except usage.UsageError as error:
        sys.exit(_failed(usage.explained(error), usage.EXIT_CODE))
    except Exception as error:
        if (line := _expected(error)) is None:
            raise
        sys.exit(_failed(line, 1))
    sys.exit(code or 0)


def _expected(error: BaseException) -> str | None:
    """The line that says an expected error; None for a mistake of ours, whose traceback is wanted."""
    from heliograph.bus.errors import HeliographError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return str(error) if isinstance(error, HeliographError) else None


def _failed(line: str, code: int) -> int:
    print(f"error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
