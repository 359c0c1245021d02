"""``site``: a server for the edges of one site, so that one link leads from there to the cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.usage import examples


def register(app: typer.Typer) -> None:
    app.command(
        help="Make the directory of a site's server: a leaf node of the cloud's broker, to which the agents of some"
        " edges connect. Carry it to the site; nothing is started.",
        epilog=examples("heliograph site ./cloud berlin --edge hall-1 --edge hall-2 --tls-name broker.berlin.example"),
    )(site)


def site(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The cloud's directory.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the site.")],
    edge: Annotated[list[str], typer.Option(metavar="EDGE", help="An edge there, which has enrolled; repeatable.")],
    tls_name: Annotated[
        list[str], typer.Option(metavar="NAME", help="Host name or address by which the site's edges reach its server;"
                                " repeatable.")
    ],
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="By which the site reaches the cloud; repeatable. Default:"
                                       " the cloud's machines, or the first name in its certificate.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the site's server.")] = 4222,
) -> None:  # fmt: skip
    from shlex import quote

    from heliograph.cli.printing.output import say
    from heliograph.core.errors import Refused
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.cloud_settings import CloudSettings
    from heliograph.local.site_directory import make_site

    settings = CloudSettings.of_cloud(directory)
    if not settings.leaf_port:
        raise Refused("unsupported", field="DIRECTORY", expected="a cloud that takes servers of sites", got="one that"
                      " does not", hint=f"Let it listen for them: heliograph init {quote(str(directory))} --leaf-port"
                      " 7422, and restart its brokers.")  # fmt: skip
    hosts = host or settings.machines or settings.listening.public_names[:1]
    with private_files():
        made = make_site(directory.resolve(), name, edge, hosts, tls_name, World(), leaf_port=settings.leaf_port,
                         port=port)  # fmt: skip
    say(f"site {name} is made in {made}; carry it there, by a way that nobody can read, and start it:")
    say(f"    cd {name} && nats-server -c nats.conf")
    say("then let the agents there connect to it, each with the login that it has:")
    say(f"    HELIOGRAPH_CLOUD='tls://{tls_name[0]}:{port}?ca=…/identity/ca.pem&credentials=…/identity/login.creds'")
