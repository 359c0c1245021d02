"""``label-studio``: the bridge between a label queue and a project of Label Studio."""

from __future__ import annotations

import importlib.util
import os
from typing import Annotated

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in

TOKEN = "LABEL_STUDIO_API_KEY"
_HELP = f"""Have people label a queue's tasks in Label Studio, until Ctrl-C.

Its access token is read from the variable {TOKEN}. Tasks and the models' predictions go there, annotations come back
as labels of the person who gave them. Without --project the bridge makes one, and finds it again at its next start.

Example: {TOKEN}=... heliograph label-studio digits --url http://localhost:8080"""


def register(app: typer.Typer) -> None:
    app.command("label-studio", help=_HELP)(label_studio)


def label_studio(
    queue: Annotated[str, typer.Argument(metavar="JOB", help="The queue: the name of its job or service.")],
    url: Annotated[str, typer.Option(metavar="URL", help="Label Studio's address.")] = "http://localhost:8080",
    project: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of an existing project.")] = None,
    ahead: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Tasks that wait there at once.")] = 50,
    poll: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Between two looks at its tasks.")] = 30.0,
    webhook: Annotated[
        str, typer.Option(metavar="URL", help="Address at which Label Studio reaches this bridge, such as "
                          "http://10.0.0.5:8099; labels then come at once.")
    ] = "",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen for webhooks.")] = "127.0.0.1:8099",
    server: ServerOption = None,
) -> None:  # fmt: skip
    from heliograph.cli.printing.output import say
    from heliograph.cli.usage import misused
    from heliograph.client import AsyncClient
    from heliograph.core.errors import HeliographError
    from heliograph.core.world import World
    from heliograph.label_studio.api import LabelStudio
    from heliograph.label_studio.bridge import Bridge, Settings
    from heliograph.label_studio.serving import serve

    if importlib.util.find_spec("numpy") is None:
        raise HeliographError("the bridge needs NumPy: pip install 'heliograph[train]'")
    queue = label_in(queue, "labels", "JOB")
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        raise misused("--listen", expected="HOST:PORT", got=listen)
    studio = LabelStudio(url, os.environ.get(TOKEN, ""))
    world = World()

    async def run(client: AsyncClient) -> None:
        bridge = Bridge(client, studio, Settings(queue, project, ahead, poll), world, say)
        await serve(bridge, studio, world, webhook, host, int(port))

    with about("labels", queue):
        ask(server, run)
