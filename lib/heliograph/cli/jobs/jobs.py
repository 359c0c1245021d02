"""``jobs``: what a job trains on, what it has made, and how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, without_command

if TYPE_CHECKING:
    from heliograph.cli.jobs.job_tables import Table

app = typer.Typer(help="Ask about one job: data, models, training, evaluation, deployment.", no_args_is_help=False,
                  rich_markup_mode=None)  # fmt: skip

JobArgument = Annotated[str, typer.Argument(metavar="NAME", help="The job.")]
OutputOption = Annotated[Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="Output format.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="jobs")


app.callback(invoke_without_command=True)(without_command)


@app.command(
    help="Show the data that a job trains on and is evaluated on.",
    epilog=examples("heliograph jobs dataset digits"),
)
def dataset(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    _show("dataset", name, output, server)


@app.command(help="Show the models that a job has made.", epilog=examples("heliograph jobs models digits"))
def models(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    _show("models", name, output, server)


@app.command(help="Show how a job's training goes, edge by edge.", epilog=examples("heliograph jobs training digits"))
def training(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    _show("training", name, output, server)


@app.command(
    help="Show what a job's models score on held-out data.",
    epilog=examples("heliograph jobs evaluation digits -o json"),
)
def evaluation(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    _show("evaluation", name, output, server)


@app.command(help="Show where the result of a job is to run.", epilog=examples("heliograph jobs deployment digits"))
def deployment(name: JobArgument, output: OutputOption = "table", server: ServerOption = None) -> None:
    _show("deployment", name, output, server)


def _show(verb: str, name: str, output: str, server: str | None) -> None:
    name = label_in(name, "jobs")
    with about("jobs", name):
        found: dict[str, Any] = ask(server, lambda client: getattr(client.jobs, verb)(name))
    if output == "table":
        from heliograph.cli.jobs.job_tables import TABLES

        _print(TABLES[verb](found))
        return
    from heliograph.cli.printing.output import say

    if output == "json":
        import json

        say(json.dumps(found, indent=2))
    else:
        from heliograph.cli.printing.documents import as_yaml

        say(as_yaml([found]).rstrip("\n"))


def _print(table: Table) -> None:
    from heliograph.cli.printing.output import say, show_table

    say(table.summary)
    if table.rows:
        show_table(table.columns, table.rows)
