"""``convert``: documents of KubeEdge's Sedna as Heliograph's own."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from heliograph.cli.usage import examples, misused


def register(app: typer.Typer) -> None:
    app.command(
        help="Print documents of KubeEdge's Sedna as Heliograph's own, and say what of them is dropped.",
        epilog=examples(
            "heliograph convert -f sedna.yaml --set trainScriptBootFile=train.py > jobs.yaml",
            "heliograph convert -f sedna.yaml --set nodeName.edge-node=edge-1 -o json",
        ),
    )(convert)


def convert(
    file: Annotated[str, typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON; - reads stdin.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE",
                     help="What Sedna's documents do not say: trainScriptBootFile, edgeWorker.scriptBootFile, "
                     "cloudWorker.scriptBootFile, rounds, classes, nodeName.NODE. Repeatable."),
    ] = None,
    output: Annotated[Literal["yaml", "json"], typer.Option("--output", "-o", help="How they are printed.")] = "yaml",
) -> None:  # fmt: skip
    import json
    import sys

    from heliograph.cli.printing.documents import as_yaml
    from heliograph.cli.printing.output import printable
    from heliograph.core.errors import Refused
    from heliograph.core.tree_file import read_text
    from heliograph.sedna.conversion import convert as converted
    from heliograph.sedna.settings import Settings

    try:
        settings = Settings(setting or ())
    except Refused as error:
        raise misused("--set", expected=error.expected, got=error.got) from None
    found = converted(read_text(file), "stdin" if file == "-" else file, settings)
    for each in found.findings:
        print(printable(str(each)), file=sys.stderr)
    sys.stdout.write(json.dumps(found.documents, indent=2) + "\n" if output == "json" else as_yaml(found.documents))
    sys.stdout.flush()
