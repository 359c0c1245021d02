"""``edge invite`` and ``edge revoke``: nodes get a login of their own, and lose it."""

from __future__ import annotations

from typing import Annotated

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.usage import examples, without_command

app = typer.Typer(help="Invite nodes to enrol, and revoke their logins.", invoke_without_command=True)
EdgeArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the edge.")]


def register(main: typer.Typer) -> None:
    app.callback()(without_command)
    app.command(
        help="Print an invitation, by which a node enrols; whoever has it first is the edge.",
        epilog=examples("heliograph edge invite edge-7",
                        "heliograph edge invite hall --nodes 40 --minutes 240 --address tls://cloud.example.org:4222"),
    )(invite)  # fmt: skip
    app.command(help="Take an edge's login away: its connections end, and what is stored for it is deleted.",
                epilog=examples("heliograph edge revoke edge-7"))(revoke)  # fmt: skip
    main.add_typer(app, name="edge")


def invite(
    name: EdgeArgument,
    minutes: Annotated[int, typer.Option(min=1, max=43_200, metavar="N", help="How long it is good.")] = 15,
    nodes: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="How many may enrol; of several each takes NAME-…")
    ] = 1,
    project: Annotated[
        str, typer.Option(metavar="PROJECT", help="The project that the nodes serve. Default: all projects.")
    ] = "",
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="nats:// or tls:// URL of the broker for the nodes. Default: the"
                                 " one that this command uses.")
    ] = None,
    server: ServerOption = None,
) -> None:  # fmt: skip
    import sys

    from heliograph.bus.connection_url import ConnectionUrl
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say
    from heliograph.invitations import invite as make

    name = label_in(name, "edges")
    token = ask(server, lambda client: make(client, name, seconds=60 * minutes, nodes=nodes, project=project,
                                           address=address))
    say(token.text())
    if ConnectionUrl.parse(token.server).stays_here:
        print(f"it leads to {token.server}: for a node on another machine, name the broker by --address",
              file=sys.stderr)  # fmt: skip


def revoke(name: EdgeArgument, server: ServerOption = None) -> None:
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say

    name = label_in(name, "edges")
    with about("edges", name):
        ask(server, lambda client: client.edges.ask("revoke", name))
    say(f"edge/{name} revoked")
