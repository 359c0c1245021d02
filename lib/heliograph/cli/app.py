"""The commands: kubectl's verbs on resources, local clusters, traces, simulations, and the long-running processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from heliograph.cli import convert, crds, process_options, serve, topics, usage
from heliograph.cli.audit import audit
from heliograph.cli.catalog import algorithms, datasets, gate, gc, model_commands, model_rollout, models
from heliograph.cli.doctor import command as doctor
from heliograph.cli.events import events
from heliograph.cli.help import completion, help_command
from heliograph.cli.identity import device_commands, edge_commands, enroll_command, user_commands
from heliograph.cli.jobs import incremental_jobs, jobs, join, pair_jobs, track, worker
from heliograph.cli.label import label, studio
from heliograph.cli.local import clusters, init, secrets, servers, simulate, site
from heliograph.cli.local import run as run_command
from heliograph.cli.resources import describe, get, verbs
from heliograph.cli.trace import trace

# no rich help and no rich tracebacks: importing rich would cost a third of the start
app = typer.Typer(name="heliograph", pretty_exceptions_enable=False, rich_markup_mode=None)
_COMMANDS = (
    clusters, init, secrets, servers, site, run_command, simulate, get, describe, verbs, events, worker, jobs,
    incremental_jobs, pair_jobs, join, track, datasets, models, model_commands, model_rollout, algorithms, label,
    studio, gate, gc, topics, crds, convert, trace, audit, doctor, edge_commands, user_commands, enroll_command,
    device_commands, completion, help_command,
)  # fmt: skip
for module in _COMMANDS:
    module.register(app)


@app.callback(
    invoke_without_command=True,
    help="Train and serve models on edges and in the cloud together, over MQTT and NATS.",
    epilog="'heliograph help COMMAND' has examples; 'heliograph help exit-codes' lists the exit codes.",
)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Reach other machines without TLS. Others may read passwords and data.")
    ] = False,
) -> None:
    if insecure:
        from heliograph.bus.connection_url import INSECURE

        os.environ[INSECURE] = "1"
    if version:
        from heliograph import __version__

        typer.echo(f"heliograph {__version__}")
        raise typer.Exit
    usage.without_command(context)


def run(words: Sequence[str]) -> int:
    """Run a command and return its exit code; print usage errors, and let other errors propagate."""
    try:
        code = app(list(words), prog_name="heliograph", standalone_mode=False)
    except usage.UsageError as error:
        print(f"error: {usage.explained(error)}", file=sys.stderr)
        return usage.EXIT_CODE
    return code or 0


def _serve(context: typer.Context) -> int:
    return serve.main([str(context.info_name), *context.args])


for name, text in process_options.COMMANDS.items():
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(name, help=text, context_settings=anything, add_help_option=False)(_serve)
