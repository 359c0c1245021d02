"""``models rollout``: a version answers a share of the requests before it answers all."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.catalog import models
from heliograph.cli.catalog.model_commands import DryRun
from heliograph.cli.catalog.models import ModelArgument
from heliograph.cli.usage import examples


def register(main: typer.Typer) -> None:
    models.app.command(
        help="Let a version answer a share of the requests; errors, latency and agreement decide whether it then "
        "answers all, or none.",
        epilog=examples("heliograph models rollout cats 2",
                        "heliograph models rollout cats 2 --share 0.5 --requests 1000 --agreement 0.9"),
    )(rollout)  # fmt: skip


def rollout(
    name: ModelArgument,
    version: Annotated[int, typer.Argument(min=0, metavar="N", help="Number of the version.")],
    share: Annotated[float, typer.Option(metavar="SHARE", help="Of the requests, more than 0 to 1.")] = 0.1,
    by: Annotated[
        Literal["requests", "edges"], typer.Option(help="A share of the requests, or of the edges with all of theirs.")
    ] = "requests",
    requests: Annotated[int, typer.Option(min=1, metavar="N", help="Answers that a decision needs.")] = 100,
    errors: Annotated[
        float, typer.Option(metavar="SHARE", help="Errors that it may have beyond the deployed version's.")
    ] = 0.01,
    latency: Annotated[
        float, typer.Option(metavar="TIMES", help="How many times the deployed version's p99 its own may be.")
    ] = 2.0,
    agreement: Annotated[
        float, typer.Option(metavar="SHARE", help="Answers that have to be those of the deployed version.")
    ] = 0.0,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="Take it back after these with too few answers.")
    ] = 86400.0,
    watch: Annotated[
        float, typer.Option(metavar="SECONDS", help="After its deployment, roll it back by the same bounds in these.")
    ] = 60.0,
    dry_run: DryRun = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say

    name = label_in(name, "models")
    bounds = {"share": share, "by": by, "leastRequests": requests, "mostErrors": errors, "mostLatency": latency,
              "leastAgreement": agreement, "deadlineSeconds": deadline, "watchSeconds": watch}  # fmt: skip
    with about("models", name):
        ask(server, lambda client: client.models.rollout(name, version, bounds, dry_run=dry_run))
    say(f"model/{name} version {version} answers {share:.0%} of the {by}{' (dry run)' if dry_run else ''}")
    if not dry_run:
        say(f"The condition RolledOut of 'heliograph describe models/{name}' tells what becomes of it.")
