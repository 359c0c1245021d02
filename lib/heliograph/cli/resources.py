"""``apply``, ``get``, ``watch``, ``stop``, ``start``, ``delete``, …: kubectl's verbs on a cluster's resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.kinds import KINDS, complete_kind
from heliograph.cli.requests import ServerOption, about, ask
from heliograph.cli.usage import misused

if TYPE_CHECKING:
    from heliograph.cli.documents import FileDocument
    from heliograph.client import AsyncClient, Resources

_WATCH = """Follow a job until it ends, or a service until Ctrl-C.

A feature's resource is followed until it ends or is deleted.

Exit code: 0 succeeded, 1 failed (or the cluster is unreachable), 2 stopped, 3 deleted."""
_TUNE = """Tune a service's hard-sample rule on labelled samples. Calibrate its scores.

FILE.npz has edge_scores (samples x classes, probabilities; logits for the rule energy), labels (samples), and for
labels other than 0, 1, 2, ... classes; and cloud_scores (samples x classes) or cloud_labels (samples)."""
_ORDER = ("apiVersion", "kind", "metadata", "spec", "status")

NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="The name, unless given as KIND/NAME.")]
OutputOption = Annotated[Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Output format.")]
WorkArgument = Annotated[
    str, typer.Argument(metavar="KIND/NAME", help="jobs/NAME or services/NAME; or jobs NAME, as two words.")
]
SecondWord = Annotated[str | None, typer.Argument(metavar="NAME", hidden=True)]


def register(app: typer.Typer) -> None:
    app.command(help="Create or update the resources of a file.")(apply)
    app.command(help=f"Show resources. Kinds: {KINDS}.")(get)
    app.command(help=_WATCH)(watch)
    app.command(help="Follow the logs of all components until Ctrl-C.")(logs)
    app.command(help="Stop a job, keeping its training so far, or a service.")(stop)
    app.command(help="Start a stopped service again, or a job that was stopped or has failed.")(start)
    app.command(help="Delete a job, service, model, dataset, algorithm or offline edge.")(delete)
    app.command(help=_TUNE)(tune)


def apply(
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="YAML (several documents) or JSON; - reads stdin.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the outcome without applying it.")] = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.documents import read_documents

    documents = read_documents(file)
    ask(server, lambda client: _apply(client, documents, dry_run))


def get(
    resource: Annotated[str, typer.Argument(metavar="KIND", help=f"{KINDS}.", autocompletion=complete_kind)],
    name: NameArgument = None,
    output: OutputOption = "table",
    server: ServerOption = None,
) -> None:
    plural, one = _target(resource, name)
    if one is not None:
        with about(plural, one):
            found = [ask(server, lambda client: client.resources(plural).get(one))]
    else:
        found = ask(server, lambda client: client.resources(plural).list())
    _show(plural, found, output, one is not None)


def watch(resource: WorkArgument, name: SecondWord = None, server: ServerOption = None) -> None:
    from heliograph.cli.output import Ticker
    from heliograph.cli.watch import watch_resource

    plural, one = _target(resource, name, verb="status")  # only kinds with a status change by themselves
    with about(plural, one):
        code = ask(server, lambda client: watch_resource(client, plural, one, Ticker()))
    raise typer.Exit(code)


def logs(
    component: Annotated[
        str, typer.Argument(metavar="PART", help="Only components whose name contains this: an edge, a job, worker.")
    ] = "",
    errors: Annotated[bool, typer.Option("--errors", help="Only warnings and errors.")] = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.logs import follow_logs

    ask(server, lambda client: follow_logs(client, component, errors))


def stop(resource: WorkArgument, name: SecondWord = None, server: ServerOption = None) -> None:
    from heliograph.cli.output import say

    plural, one = _target(resource, name, verb="stop")

    async def stop_it(client: AsyncClient) -> str:
        resources = client.resources(plural)
        before = (await resources.get(one))["status"]["phase"]
        after = (await resources.stop(one))["status"]["phase"]
        return "stopped" if before != after == "Stopped" else f"had ended already ({after})"

    with about(plural, one):
        say(f"{plural[:-1]}/{one} {ask(server, stop_it)}")


def start(resource: WorkArgument, name: SecondWord = None, server: ServerOption = None) -> None:
    from heliograph.cli.output import say

    plural, one = _target(resource, name, verb="start")

    async def start_it(client: AsyncClient) -> str:
        resources = client.resources(plural)
        before = (await resources.get(one))["status"]["phase"]
        after = await resources.start(one)
        if before not in ("Stopped", "Failed"):
            return f"was not stopped ({before})"
        return f"started ({after['status']['phase']}){_waiting(after)}"

    with about(plural, one):
        say(f"{plural[:-1]}/{one} {ask(server, start_it)}")


def delete(
    resource: Annotated[str, typer.Argument(metavar="KIND/NAME", help="jobs/NAME, models/NAME, …; or two words.")],
    name: SecondWord = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.output import say

    plural, one = _target(resource, name, verb="delete")
    with about(plural, one):
        ask(server, lambda client: client.resources(plural).delete(one))
    say(f"{plural[:-1]}/{one} deleted")


def tune(
    resource: Annotated[str, typer.Argument(metavar="services/NAME", help="The service; or service NAME.")],
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the outcome without applying it.")] = False,
    server: ServerOption = None,
) -> None:
    from pathlib import Path

    from heliograph.cli.tune import TuneOptions, tuner

    plural, one = _target(resource, name, verb="update")
    if plural != "services":
        raise misused("KIND/NAME", expected="services/NAME", got=resource)
    if (target_accuracy is None) == (max_offload is None):
        got = "neither" if max_offload is None else "both"
        raise misused("--target-accuracy", expected="this option or --max-offload", got=got)
    page = None if plot is None else Path(plot)
    run = tuner(one, TuneOptions(Path(data), target_accuracy, max_offload, rule, page, dry_run))
    with about(plural, one):
        ask(server, run)


async def _apply(client: AsyncClient, documents: list[FileDocument], dry_run: bool) -> None:
    """Apply all documents, or none if the cluster refuses one."""
    from heliograph.cli.output import say
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
    from heliograph.cli.output import printable

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


def _show(plural: str, documents: list[dict[str, Any]], output: str, single: bool) -> None:
    from heliograph.cli.output import say, show_table

    if output != "table":
        documents = [{key: each[key] for key in _ORDER if key in each} for each in documents]
    if output == "json":
        import json

        say(_escaped(json.dumps(documents[0] if single else documents, indent=2, ensure_ascii=False)))
    elif output == "yaml":
        from heliograph.cli.documents import as_yaml

        if documents:
            say(as_yaml(documents).rstrip("\n"))
    elif documents:
        from heliograph.cli.presentation import table
        from heliograph.core.world import World

        show_table(*table(plural, documents, World().now()))
    else:
        typer.echo(f"there are no {plural}", err=True)


def _escaped(text: str) -> str:
    """Return JSON with each character that a terminal would take for a command as an escape of JSON."""
    from heliograph.core.text import harmless

    return "".join(
        each if harmless(each) == each or each == "\n" else f"\\u{ord(each):04x}" for each in text
    ) if harmless(text) != text else text  # fmt: skip


def _target(resource: str, name: str | None, verb: str = "") -> tuple[str, Any]:
    """Return plural and name of ``jobs NAME``, ``job NAME`` or ``jobs/NAME``; a verb requires a name."""
    from heliograph.bus.contract.registry import declared
    from heliograph.core.names import LABEL_RULE, is_label

    word, slash, rest = resource.partition("/")
    every = declared().verbs
    plural = word if word in every else f"{word}s"
    kinds = [kind for kind, verbs in every.items() if not verb or verb in verbs]
    if plural not in kinds:
        expected = " or ".join(f"{kind}/NAME" if verb else kind for kind in kinds)
        raise misused("KIND/NAME" if verb else "KIND", expected=expected, got=resource)
    if slash and name is not None:
        raise misused("NAME", expected=f"{plural}/NAME or {plural} NAME", got=f"{resource} {name}")
    one = rest if slash else name
    if one is None and verb:
        raise misused("KIND/NAME", expected=f"{plural}/NAME", got=resource)
    if one is not None and not is_label(one):
        raise misused("NAME", expected=LABEL_RULE, got=one or "nothing")
    return plural, one
