"""``datasets``: push samples to edges, and the versions of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import without_command

app = typer.Typer(help="Push samples to edges; list versions of data sets.", no_args_is_help=False,
                  rich_markup_mode=None)  # fmt: skip

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The data set.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="datasets")


app.callback(invoke_without_command=True)(without_command)


@app.command(
    help="Upload a file or a directory as a data set; edges fetch it.",
    epilog="Example: heliograph datasets push digits samples/ --edge edge-1",
)
def push(
    name: NameArgument,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A data file, or a directory of files or images.")],
    edge: Annotated[
        str | None, typer.Option(metavar="EDGE", help="The edge that fetches it. Default: every edge.")
    ] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.cells import size
    from heliograph.cli.printing.output import say

    name = label_in(name, "datasets")
    if edge is not None:
        label_in(edge, where="--edge")
    path.stat()  # a missing file is said before a missing cluster
    made: dict[str, Any] = ask(server, lambda client: client.push(name, path, edge=edge))
    content = made["spec"]["content"]
    say(f"dataset/{name} is {path}: {size(content['size'])}, {content['digest'][:12]}; "
        f"'heliograph get datasets {name}' shows which edges have it")  # fmt: skip


@app.command(
    help="List the versions of a data set, oldest first.", epilog="Example: heliograph datasets versions digits"
)
def versions(name: NameArgument, server: ServerOption = None) -> None:
    from heliograph.cli.cells import age, size, some_of
    from heliograph.cli.printing.output import say, show_table
    from heliograph.core.world import World

    name = label_in(name, "datasets")
    with about("datasets", name):
        found: list[dict[str, Any]] = ask(server, lambda client: client.datasets.versions(name))["versions"]
    if not found:
        say(f"dataset/{name} has no version: no edge has read it yet")
        return
    now = World().now()
    rows = [
        [each["version"][:12], each.get("parent", "")[:12], str(each.get("samples", 0)),
         str(each.get("newSamples", 0)), str(each.get("files", 0)), size(each.get("size", 0)).replace(" ", ""),
         each.get("columnsDigest", "")[:12], some_of(each.get("edges", ())), age(each.get("time", ""), now)]
        for each in found
    ]  # fmt: skip
    show_table(["VERSION", "PARENT", "SAMPLES", "NEW", "FILES", "SIZE", "SCHEMA", "EDGES", "AGE"], rows)
