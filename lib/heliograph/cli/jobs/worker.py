"""``worker``: the workers of all edges, what each does, and why one waits or fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.asking.kinds import complete_of
from heliograph.cli.asking.requests import ServerOption, ask
from heliograph.cli.asking.targets import SecondWord, target
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import Report, WorkerReport
    from heliograph.client import AsyncClient

_WORKER = """Show what workers do, and why one waits or fails.

They are read from the edges' reports, which an operator may read over NATS. Workers of an offline edge are shown as it
last reported them, with 'offline' as their state. See a worker's output by 'heliograph logs WORKER --since 10m'."""
_COLUMNS = ["EDGE", "WORKER", "ROLE", "JOB", "ROUND", "STATE", "RESTARTS", "DETAIL"]
_KINDS = ("edges", "jobs", "services")


def register(app: typer.Typer) -> None:
    app.command(
        help=_WORKER, epilog=examples("heliograph worker jobs/digits", "heliograph worker edges/edge-1 -o json")
    )(worker)


def worker(
    resource: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND/NAME]",
            help="Only those of this job, service or edge; or two words.",
            autocompletion=complete_of(*_KINDS),
        ),
    ] = None,
    name: SecondWord = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")] = "table",
    server: ServerOption = None,
) -> None:
    import json

    from heliograph.cli.printing.output import say, show_table
    from heliograph.cli.printing.output_forms import escaped

    about = target(resource, name, verb="get") if resource is not None else None
    if about is not None and about[0] not in _KINDS:
        raise misused("KIND/NAME", expected=" or ".join(f"{each}/NAME" for each in _KINDS), got=resource)
    found = [each for each in ask(server, read_workers) if each.belongs_to(about)]
    if output == "json":
        say(escaped(json.dumps([each.tree() for each in found], indent=2, ensure_ascii=False)))
    elif found:
        show_table(_COLUMNS, [each.row() for each in found])
    else:
        typer.echo("there are no workers" + (f" of {about[0][:-1]}/{about[1]}" if about else ""), err=True)


class EdgeWorker:
    """A worker as its edge reported it; its state is ``offline`` where the edge is not connected."""

    def __init__(self, edge: str, online: bool, report: WorkerReport) -> None:
        self._edge = edge
        self._report = report
        self.state = report.state if online or report.state == "finished" else "offline"

    def belongs_to(self, about: tuple[str, str] | None) -> bool:
        """Return whether the worker is that of a resource, given by plural and name; of None every worker is."""
        if about is None:
            return True
        plural, name = about
        if plural == "edges":
            return self._edge == name
        return self._report.job == name and (plural == "services") == (self._report.role in _OF_SERVICES)

    def row(self) -> list[str | list[str]]:
        report = self._report
        return [self._edge, report.worker, report.role, report.job, str(report.round), self.state,
                str(report.restarts or ""), report.detail]  # fmt: skip

    def tree(self) -> dict[str, Any]:
        return {"edge": self._edge, **self._report.model_dump(mode="json"), "state": self.state}


_OF_SERVICES = frozenset(("infer", "big-model"))
"""Roles of a service's workers; its job is the service."""


def workers_of(reports: Iterable[Report], online: Mapping[str, bool]) -> list[EdgeWorker]:
    """Return the workers of the edges' reports, by edge and name."""
    newest = {report.edge: report for report in reports}  # the last one of an edge counts
    return [
        EdgeWorker(edge, online.get(edge, False), each)
        for edge, report in sorted(newest.items())
        for each in sorted(report.workers, key=lambda each: each.worker)
    ]


async def read_workers(client: AsyncClient) -> list[EdgeWorker]:
    """Read the workers of all edges. Raise Refused if the login may not read their reports."""
    edges = await client.edges.list()
    reports = await read_reports(client)
    return workers_of(reports, {each["metadata"]["name"]: bool(each["status"].get("online")) for each in edges})


async def read_reports(client: AsyncClient) -> list[Report]:
    """Read the newest report of each edge; pass over one that cannot be read."""
    from heliograph.bus.contract.event import decode
    from heliograph.bus.contract.topics import REPORT
    from heliograph.cli.asking.streams_of import history_of
    from heliograph.core.errors import Refused

    found = []
    async with history_of(client, [REPORT.filter()], 0, "worker") as history:
        async for each in history.past():
            try:
                found.append(REPORT.validate(decode(each.body, each.topic).data, each.topic))
            except Refused:
                continue
    return found
