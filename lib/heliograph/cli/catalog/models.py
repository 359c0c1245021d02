"""``models``: the weights of a cluster's models as files; ``model_commands`` adds the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import examples, without_command

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

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
    help="Make a file the next version of a model. A .onnx or .tflite file is served as it is.",
    epilog=examples("heliograph models upload digits digits.safetensors", "heliograph models upload cats cats.onnx",
                    "heliograph models upload cats better.onnx --no-deploy --metric accuracy=0.97"),
)  # fmt: skip
def upload(
    name: ModelArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A safetensors, ONNX or TensorFlow Lite file.")],
    no_deploy: Annotated[
        bool, typer.Option("--no-deploy", help="Keep what is deployed; 'models rollout' tries the version.")
    ] = False,
    parent: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The version that the file was made from.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="What the version scores. Repeatable.")
    ] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.cells import size
    from heliograph.cli.printing.output import say

    name, metrics = label_in(name, "models"), dict(map(_metric, metric or ()))
    with file.open("rb"):  # a missing file is said before a missing cluster
        pass

    async def send(client: AsyncClient) -> tuple[dict[str, Any], int | None]:
        made = await client.upload(name, file, parent=parent, metrics=metrics, deploy=not no_deploy)
        return made, (await client.models.versions(name, limit=1)).get("deployed")

    with about("models", name):
        made, deployed = ask(server, send)
    number, weights = made["version"], made["weights"]
    say(f"model/{name} version {number} is {file}: {size(weights['size'])}, {weights['digest'][:12]}")
    if deployed != number:
        say(f"Version {deployed} stays deployed. Try this one by 'heliograph models rollout {name} {number}', or "
            f"deploy it by 'heliograph models alias {name} champion {number}'.")  # fmt: skip


def _metric(given: str) -> tuple[str, float]:
    from heliograph.cli.usage import misused

    name, _, value = given.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise misused("--metric", expected="NAME=NUMBER, such as accuracy=0.97", got=given) from None
