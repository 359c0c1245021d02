"""``crds``: the kinds as Kubernetes' custom resource definitions, a file each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.usage import examples


def register(app: typer.Typer) -> None:
    app.command(
        help="Write the kinds as Kubernetes' custom resource definitions, a file each.",
        epilog=examples("heliograph crds deploy/crds"),
    )(crds)


def crds(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where the files go; made if it is missing.")],
) -> None:
    from heliograph.bus.contract.custom_resources.definitions import files
    from heliograph.core.errors import HeliographError

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            path = directory / name
            path.write_text(text, encoding="utf-8")
            typer.echo(path)
    except OSError as error:
        raise HeliographError(f"cannot write to {directory}: {error.strerror or error}") from None
