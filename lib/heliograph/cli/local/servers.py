"""``servers``: whether each server of a cloud's cluster is current; between two restarts one waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.usage import examples

_HELP = """Show the servers of a cloud that 'heliograph init' has made, and whether each has all that the others have.

Restart one only while all others are current: a stream takes writes as long as most of its replicas run."""


def register(app: typer.Typer) -> None:
    app.command(help=_HELP, epilog=examples("heliograph servers ./cloud", "heliograph servers ./cloud --wait 60"))(
        servers
    )


def servers(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The cloud's directory, on its first machine.")
    ],
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time to wait until all servers are current.")
    ] = 0.0,
) -> None:  # fmt: skip
    import asyncio

    from heliograph.cli.printing.output import say
    from heliograph.core.errors import Unreachable
    from heliograph.core.world import World
    from heliograph.local.cloud_directory import CloudDirectory
    from heliograph.local.cloud_settings import CloudSettings
    from heliograph.local.nats_server import SYSTEM_USER
    from heliograph.local.server_states import server_states

    settings = CloudSettings.of_cloud(directory)
    world = World()
    broker = CloudDirectory(directory, settings, world).broker
    names = [broker.name, *(f"{broker.name}-{number}" for number in range(2, settings.servers + 1))]
    found = asyncio.run(server_states(broker.url(SYSTEM_USER), names, world, wait))
    for each in found:
        say(f"{each.name:<10} {each.version:<10} {each.lacks or 'current'}")
    if lacking := [each.name for each in found if each.lacks]:
        raise Unreachable(f"{len(found) - len(lacking)} of {len(found)} servers are current; wait for"
                          f" {', '.join(lacking)}: heliograph servers {directory} --wait 60")  # fmt: skip
