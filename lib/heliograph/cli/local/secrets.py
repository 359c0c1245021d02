"""``secrets``: the Secrets of Kubernetes that the chart needs, from the directory of a cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.usage import examples


def register(app: typer.Typer) -> None:
    app.command(
        help="Print the Secrets that the chart needs, from a directory that 'heliograph init' has made. Whoever reads"
        " them is every login: send them to kubectl, and nowhere else.",
        epilog=examples("heliograph secrets ./cloud --namespace heliograph | kubectl apply --server-side -f -"),
    )(secrets)


def secrets(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The cloud's directory.")],
    release: Annotated[str, typer.Option(metavar="NAME", help="Name of the chart's release.")] = "heliograph",
    namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Namespace of the release. Default: kubectl's own.")
    ] = "",
    servers: Annotated[
        int, typer.Option(min=1, max=5, metavar="N", help="Servers of the broker's cluster, as nats.servers has it.")
    ] = 3,
) -> None:
    import sys

    import yaml

    from heliograph.cli.usage import misused
    from heliograph.core.names import LABEL_RULE, is_label
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.kubernetes_secrets import secrets as make

    for option, name in (("--release", release), *((("--namespace", namespace),) if namespace else ())):
        if not is_label(name):
            raise misused(option, expected=LABEL_RULE, got=name)
    if sys.stdout.isatty():
        raise misused("the output", expected="a pipe to kubectl or a file, since these are all keys of the cloud",
                      got="a terminal")  # fmt: skip
    with private_files():
        made = make(directory, release, namespace, servers, World())
    typer.echo(yaml.safe_dump_all(made, sort_keys=False), nl=False)
