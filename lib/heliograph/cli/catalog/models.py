"""``models``: the weights of a cluster's models as files; ``model_commands`` adds the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, without_command

_HELP = "Models: their versions, what is deployed, and their weights as files."
app = typer.Typer(help=_HELP, no_args_is_help=False, rich_markup_mode=None)

ModelArgument = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="models")


app.callback(invoke_without_command=True)(without_command)


@app.command(
    help="Write a version of a model to a file; heliograph.load(model, file) reads one of safetensors.",
    epilog=examples("heliograph models download digits --version 2"),
)
def download(
    name: ModelArgument,
    version: Annotated[
        str | None, typer.Option(metavar="N|ALIAS", help="A version. Default: the deployed one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: NAME.FORMAT, NAME-vN with a version.")
    ] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.cells import size
    from heliograph.cli.printing.output import say

    name = label_in(name, "models")
    which = "" if version is None else f"-{'v' if version.isdigit() else ''}{version}"
    with about("models", name):
        wanted = int(version) if version is not None and version.isdigit() else version
        target = out or Path(f"{name}{which}.{ask(server, lambda client: client.format_of(name, wanted))}")
        target.parent.mkdir(parents=True, exist_ok=True)
        ask(server, lambda client: client.download(name, target, wanted))
    say(f"{target}: {size(target.stat().st_size)}")


@app.command(
    help="Make a model of a file; jobs and services start from it. A .onnx or .tflite file is served as it is.",
    epilog=examples("heliograph models upload digits digits.safetensors", "heliograph models upload cats cats.onnx"),
)
def upload(
    name: ModelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors, ONNX or TensorFlow Lite file.")],
    server: ServerOption = None,
) -> None:
    from heliograph.cli.cells import size
    from heliograph.cli.printing.output import say

    name = label_in(name, "models")
    with file.open("rb"):  # a missing file is said before a missing cluster
        pass
    made: dict[str, Any] = ask(server, lambda client: client.upload(name, file))
    weights = made["spec"]["weights"]
    say(f"model/{name} starts from {file}: {size(weights['size'])}, {weights['digest'][:12]}")
