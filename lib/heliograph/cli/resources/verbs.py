"""``apply``, ``watch``, ``logs``, ``stop``, ``start``, ``delete``, ``tune``: kubectl's verbs on resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.kinds import complete_of, complete_target
from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import (
    FurtherArgument,
    NameArgument,
    SecondWord,
    WorkArgument,
    target,
    targets,
)
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.cli.printing.documents import FileDocument
    from heliograph.client import AsyncClient
    from heliograph.resource_requests import Resources

_WATCH = """Follow a job until it ends, or a service until Ctrl-C.

A feature's resource is followed until it ends or is deleted.

Exit code: 0 succeeded, 1 failed, 2 stopped, 3 deleted."""
_LOGS = """Follow the logs of all components until Ctrl-C.

With --since the broker's last lines come first, up to a week old; an operator may read them over NATS."""
_TUNE = """Tune a service's hard-sample rule on labelled samples. Calibrate its scores.

FILE.npz has edge_scores (samples x classes, probabilities; logits for the rule energy), labels (samples), and for
labels other than 0, 1, 2, ... classes; and cloud_scores (samples x classes) or cloud_labels (samples)."""

ServiceArgument = Annotated[
    str,
    typer.Argument(
        metavar="services/NAME", help="The service; or services NAME, as two words.",
        autocompletion=complete_of("services"),
    ),
]  # fmt: skip
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the outcome without applying it.")]
MOST_LINES = 1_000_000
"""Lines that --tail keeps in memory, at most."""
_DRY = " (dry run)"


def register(app: typer.Typer) -> None:
    app.command(
        help="Create or update the resources of a file.",
        epilog=examples("heliograph apply -f job.yaml", "heliograph apply -f job.yaml --dry-run"),
    )(apply)
    app.command(help=_WATCH, epilog=examples("heliograph watch jobs/digits"))(watch)
    app.command(
        help=_LOGS, epilog=examples("heliograph logs edge-2", "heliograph logs digits --since 10m --no-follow")
    )(logs)
    app.command(
        help="Stop a job, keeping its training so far, or a service.",
        epilog=examples("heliograph stop jobs/digits services/street"),
    )(stop)
    app.command(
        help="Start a stopped service again, or a job from its last model.",
        epilog=examples("heliograph start services/street"),
    )(start)
    app.command(
        help="Delete a job, service, model, dataset, algorithm or offline edge.",
        epilog=examples("heliograph delete models/digits", "heliograph delete jobs monday tuesday"),
    )(delete)
    app.command(
        help=_TUNE, epilog=examples("heliograph tune services/street --data pairs.npz --target-accuracy 0.95 --dry-run")
    )(tune)


def apply(
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="YAML (several documents) or JSON; - reads stdin.")
    ],
    dry_run: DryRunOption = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.documents import read_documents

    documents = read_documents(file)
    ask(server, lambda client: _apply(client, documents, dry_run))


def watch(resource: WorkArgument, name: SecondWord = None, server: ServerOption = None) -> None:
    from heliograph.cli.printing.output import Ticker
    from heliograph.cli.resources.watch import watch_resource

    plural, one = target(resource, name, verb="status")  # only kinds with a status change by themselves
    with about(plural, one):
        code = ask(server, lambda client: watch_resource(client, plural, one, Ticker()))
    raise typer.Exit(code)


def logs(
    component: Annotated[
        str, typer.Argument(metavar="PART", help="Only components whose name contains this: an edge, a job, worker.")
    ] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only warnings and errors.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="Begin with lines of this age, or since a time.")] = "",
    tail: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=MOST_LINES, help="Begin with the newest N lines, of those of --since if given."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on, or end at the last line.")] = True,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.events.logs import Wanted, follow_logs, past_logs
    from heliograph.cli.events.since import parse_since
    from heliograph.core.world import World

    wanted = Wanted(component, errors)
    if since or tail is not None:
        begin = parse_since(since, World().now()) if since else 0.0
        ask(server, lambda client: past_logs(client, wanted, begin, follow, tail))
    elif follow:
        ask(server, lambda client: follow_logs(client, wanted))
    else:
        raise misused("--no-follow", expected="--since or --tail with it", got="nothing to show")


def stop(
    resource: WorkArgument, names: FurtherArgument = None, dry_run: DryRunOption = False, server: ServerOption = None
) -> None:
    async def stopped(resources: Resources, one: str) -> str:
        before = (await resources.get(one))["status"]["phase"]
        after = (await resources.stop(one, dry_run=dry_run))["status"]["phase"]
        return f"stopped{_DRY if dry_run else ''}" if before != after == "Stopped" else f"had ended already ({after})"

    _change(targets(resource, names or (), "stop"), stopped, server)


def start(
    resource: WorkArgument, names: FurtherArgument = None, dry_run: DryRunOption = False, server: ServerOption = None
) -> None:
    async def started(resources: Resources, one: str) -> str:
        before = (await resources.get(one))["status"]["phase"]
        after = await resources.start(one, dry_run=dry_run)
        if before not in ("Stopped", "Failed"):
            return f"was not stopped ({before})"
        return f"started{_DRY}" if dry_run else f"started ({after['status']['phase']}){_waiting(after)}"

    _change(targets(resource, names or (), "start"), started, server)


def delete(
    resource: Annotated[
        str,
        typer.Argument(
            metavar="KIND/NAME", help="jobs/NAME, models/NAME, …; or a kind, then names.",
            autocompletion=complete_target,
        ),
    ],
    names: FurtherArgument = None,
    dry_run: DryRunOption = False,
    server: ServerOption = None,
) -> None:
    async def deleted(resources: Resources, one: str) -> str:
        await resources.delete(one, dry_run=dry_run)
        return f"deleted{_DRY if dry_run else ''}"

    _change(targets(resource, names or (), "delete"), deleted, server)


def tune(
    resource: ServiceArgument,
    data: Annotated[str, typer.Option(metavar="FILE.npz", help="Labelled samples with both models' answers.")],
    name: NameArgument = None,
    target_accuracy: Annotated[
        float | None, typer.Option(metavar="SHARE", min=0, max=1, help="Accuracy to reach with the least offload.")
    ] = None,
    max_offload: Annotated[
        float | None, typer.Option(metavar="SHARE", min=0, max=1, help="Largest offload, for the best accuracy.")
    ] = None,
    rule: Annotated[str | None, typer.Option(metavar="RULE", help="Another rule than the service's.")] = None,
    plot: Annotated[str | None, typer.Option(metavar="OUT.html", help="Write the curve as an HTML page.")] = None,
    dry_run: DryRunOption = False,
    server: ServerOption = None,
) -> None:
    from pathlib import Path

    from heliograph.cli.jobs.tune import TuneOptions, tuner

    plural, one = target(resource, name, verb="update")
    if plural != "services":
        raise misused("KIND/NAME", expected="services/NAME", got=resource)
    if (target_accuracy is None) == (max_offload is None):
        got = "neither" if max_offload is None else "both"
        raise misused("--target-accuracy", expected="this option or --max-offload", got=got)
    page = None if plot is None else Path(plot)
    run = tuner(one, TuneOptions(Path(data), target_accuracy, max_offload, rule, page, dry_run))
    with about(plural, one):
        ask(server, run)


def _change(
    chosen: dict[str, list[str]], change: Callable[[Resources, str], Awaitable[str]], server: str | None
) -> None:
    """Change resources one after the other, and say of each what has become of it; end at the first that is refused."""
    from heliograph.cli.printing.output import say

    async def change_all(client: AsyncClient) -> None:
        for plural, names in chosen.items():
            for one in names:
                with about(plural, one):
                    say(f"{plural[:-1]}/{one} {await change(client.resources(plural), one)}")

    ask(server, change_all)


async def _apply(client: AsyncClient, documents: list[FileDocument], dry_run: bool) -> None:
    """Apply all documents, or none if the cluster refuses one."""
    from heliograph.cli.printing.output import say
    from heliograph.core.errors import Refused

    for trial in (True,) if dry_run else (True, False):
        for document in documents:
            resources = client.resources(document.resource.plural)
            try:
                before = await _stored(resources, document.resource.name)
                after = await resources.apply(document.tree, dry_run=trial)
            except Refused as error:
                raise document.refusal(error) from None
            if trial == dry_run:
                say(_outcome(document.resource.plural, before, after, dry_run))


def _outcome(plural: str, before: dict[str, Any] | None, after: dict[str, Any], dry_run: bool) -> str:
    """Return ``job/train created (Pending): model m does not exist`` or the like."""
    if before is None:
        what = "created"
    else:
        what = "updated" if after["metadata"]["generation"] > before["metadata"]["generation"] else "unchanged"
    phase = "" if dry_run else after.get("status", {}).get("phase", "")
    note = f" ({phase or 'dry run'})" if phase or dry_run else ""
    return f"{plural[:-1]}/{after['metadata']['name']} {what}{note}{'' if dry_run else _waiting(after)}"


def _waiting(document: dict[str, Any]) -> str:
    """Return ``: `` and what a pending resource waits for; empty otherwise."""
    from heliograph.cli.cells import failing
    from heliograph.cli.printing.output import printable

    missing = failing(document) if document.get("status", {}).get("phase") == "Pending" else ""
    return f": {printable(missing)}" if missing else ""


async def _stored(resources: Resources, name: str) -> dict[str, Any] | None:
    from heliograph.core.errors import Refused

    try:
        return await resources.get(name)
    except Refused as error:
        if error.code != "not-found":
            raise
        return None
