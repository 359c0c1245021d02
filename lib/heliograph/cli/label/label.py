"""``label``: a person, or a file of known labels, labels the hard samples of a job or service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in

_HELP = """Label the hard samples of a job or service.

The sample is drawn in the terminal, and each class has a key: s skips a sample, u takes the last label back, q ends.
With --oracle the labels of a file are given instead; its lines have the SHA-256 of a sample and its label.

Example: heliograph label digits --as anna"""


def register(app: typer.Typer) -> None:
    app.command(help=_HELP)(label)


def label(
    queue: Annotated[str, typer.Argument(metavar="JOB", help="The queue: the name of its job or service.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Who labels. Default: the login.")] = "",
    oracle: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A csv with the columns task and label, or JSON lines.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for further samples where none is left.")] = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.label.oracle_file import label_from_file
    from heliograph.cli.label.person import label_by_hand

    queue = label_in(queue, "labels", "JOB")
    with about("labels", queue):
        if oracle is not None:
            ask(server, lambda client: label_from_file(client, queue, name, oracle, follow))
        else:
            ask(server, lambda client: label_by_hand(client, queue, name, follow))
