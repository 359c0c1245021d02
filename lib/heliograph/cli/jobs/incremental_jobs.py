"""``incremental-jobs``: the steps of an incremental learning job by hand, and what its rounds have made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, without_command

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

_PLURAL = "incremental-jobs"
app = typer.Typer(help="Begin a step of an incremental learning job by hand, or see what it has made.",
                  no_args_is_help=False, rich_markup_mode=None)  # fmt: skip
JobArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would follow.")]
OutputOption = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name=_PLURAL)


app.callback(invoke_without_command=True)(without_command)


@app.command(
    help="Begin a round now, in place of its trigger.", epilog=examples("heliograph incremental-jobs training digits")
)
def training(name: JobArgument, dry_run: DryRunOption = False, server: ServerOption = None) -> None:
    _by_hand("training", name, dry_run, server)


@app.command(
    help="Evaluate the candidates now, in place of the trigger.",
    epilog=examples("heliograph incremental-jobs evaluation digits"),
)
def evaluation(name: JobArgument, dry_run: DryRunOption = False, server: ServerOption = None) -> None:
    _by_hand("evaluation", name, dry_run, server)


@app.command(
    help="Deploy the candidates that have passed now, in place of the trigger.",
    epilog=examples("heliograph incremental-jobs deployment digits"),
)
def deployment(name: JobArgument, dry_run: DryRunOption = False, server: ServerOption = None) -> None:
    _by_hand("deployment", name, dry_run, server)


@app.command(
    help="Show what the rounds of a job have made, and what serves.",
    epilog=examples("heliograph incremental-jobs models digits"),
)
def models(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    from heliograph.cli.printing.output import say, show_table

    name = label_in(name, _PLURAL)
    with about(_PLURAL, name):
        found: dict[str, Any] = ask(server, lambda client: client.incremental_jobs.models(name))
    if output == "json":
        import json

        say(json.dumps(found, indent=2))
        return
    serving = [f"{model} version {number}" for model, number in sorted(found["champions"].items())]
    serving += [f"{model} {digest[:12]} on {edge}" for edge, own in sorted(found.get("edges", {}).items())
                for model, digest in sorted(own.items())]  # fmt: skip
    say(f"serving: {', '.join(serving) or 'nothing yet'}")
    rows = [
        [str(each["round"]), each["model"], each["decision"], each.get("edge") or str(each.get("version", "")),
         _share(each.get("accuracy")), each["digest"][:12], each["reason"]] for each in found["versions"]
    ]  # fmt: skip
    if rows:
        place = "EDGE" if any(each.get("edge") for each in found["versions"]) else "VERSION"
        show_table(("ROUND", "MODEL", "DECISION", place, "ACCURACY", "DIGEST", "REASON"), rows)


def _by_hand(verb: str, name: str, dry_run: bool, server: str | None) -> None:
    from heliograph.cli.printing.output import say

    name = label_in(name, _PLURAL)

    def request(client: AsyncClient) -> Any:
        return getattr(client.incremental_jobs, verb)(name, dry_run=dry_run)

    with about(_PLURAL, name):
        found: dict[str, Any] = ask(server, request)
    then = "would be asked for" if dry_run else "is asked for"
    say(f"incremental-job/{name}: {verb} {then}; {_state_of(found, verb)}")


def _state_of(job: dict[str, Any], verb: str) -> str:
    """Return how far a job is, and what follows from a step that is asked for."""
    if job["spec"]["location"] == "edge":
        return "each of its edges takes it by itself"
    status, loop = job["status"], job["status"]["loop"]
    if verb == "training" and loop["step"] == "waiting":
        count = status["waiting"]
        none = "no labelled sample waits, so that the script has to give its own"
        return f"round {loop['round'] + 1} begins: {f'{count} labelled samples wait' if count else none}"
    then = ", and then the next one begins" if verb == "training" else ""
    return f"round {loop['round']} is {loop['step']}{then}"


def _share(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else ""
