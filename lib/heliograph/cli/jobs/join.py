"""``join``: let edges take part in a federated job that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

_JOIN = """Let edges take part in a federated job that is pending or runs.

They train from the next round on, with the job's own script. An edge whose script had left its loop trains again.

A program that trains by itself, without an agent, joins by MQTT: 'heliograph up --participant NAME'."""


def register(app: typer.Typer) -> None:
    app.command(help=_JOIN, epilog=examples("heliograph join jobs/digits --edge edge-4"))(join)


def join(
    resource: Annotated[str, typer.Argument(metavar="jobs/NAME", help="The job; or its name alone.")],
    edge: Annotated[list[str], typer.Option(metavar="EDGE", help="The edge that joins; repeatable.")],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its data set. Default: the one that the job's workers name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the outcome without applying it.")] = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say

    name = label_in(resource, "jobs", "jobs/NAME")
    for one in edge:
        label_in(one, where="--edge")

    async def join_all(client: AsyncClient) -> list[dict[str, Any]]:
        return [await client.jobs.join(name, one, dataset=dataset, dry_run=dry_run) for one in edge]

    with about("jobs", name):
        answers = ask(server, join_all)
    for each in answers:
        say(f"job/{name} ({each['phase']}): {each['edge']} {_outcome(each, dry_run)}")


def _outcome(answer: dict[str, Any], dry_run: bool) -> str:
    """Return what follows for an edge: ``takes part from round 4 on``, for example."""
    if answer["active"]:
        what = f"trains in round {answer['round']}"
    elif answer["phase"] == "Pending":
        what = "takes part once the job begins"
    elif answer["round"] >= answer["rounds"]:
        what = f"comes too late: round {answer['round']} is the last"
    else:
        what = f"takes part from round {answer['round'] + 1} on"
    offline = "" if answer["present"] else "; it is offline now"
    return f"{what}{offline}{' (dry run)' if dry_run else ''}"
