"""``edge invite`` and ``edge revoke``: nodes get a login of their own, and lose it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.usage import examples, misused, without_command

app = typer.Typer(help="Invite nodes to enrol, and revoke their logins.", invoke_without_command=True)
EdgeArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the edge.")]


def register(main: typer.Typer) -> None:
    app.callback()(without_command)
    app.command(
        help="Print an invitation, by which a node enrols; whoever has it first is the edge.",
        epilog=examples("heliograph edge invite edge-7",
                        "heliograph edge invite hall --nodes 40 --minutes 240 --address tls://cloud.example.org:4222"),
    )(invite)  # fmt: skip
    app.command(
        help="Take an edge's login away: its connections end, and what is stored for it is deleted. With --group those"
        " of all edges that have enrolled by a group's invitation, and the invitation too.",
        epilog=examples("heliograph edge revoke edge-7", "heliograph edge revoke --group hall --dry-run",
                        "heliograph edge revoke --group hall"),
    )(revoke)  # fmt: skip
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


def revoke(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the edge.")] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="In place of an edge, all that have enrolled by an invitation of"
                                 " this name; it is withdrawn.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a group's edges are.")] = False,
    server: ServerOption = None,
) -> None:  # fmt: skip
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say

    if (name is None) == (group is None):
        raise misused("NAME", expected="an edge's name, or --group", got="both" if name else "neither")
    if group is not None:
        _revoke_group(label_in(group, "invitations"), dry_run, server)
        return
    if dry_run:
        raise misused("--dry-run", expected="--group beside it", got="the name of one edge")
    name = label_in(name or "", "edges")
    with about("edges", name):
        ask(server, lambda client: client.edges.ask("revoke", name))
    say(f"edge/{name} revoked")


def _revoke_group(group: str, dry_run: bool, server: str | None) -> None:
    """Say which edges a group has, and revoke them, a part at a time."""
    from heliograph.cli.printing.output import say

    def part(dry_run: bool) -> dict[str, Any]:
        found: dict[str, Any] = ask(server, lambda client: client.invitations.ask("revoke", group, dry_run=dry_run))
        return found

    with about("invitations", group):
        found = part(dry_run=True)
    count = len(found["edges"])
    say(f"group {group}: {count} {'edge has' if count == 1 else 'edges have'} enrolled by its invitation"
        f"{'' if found['withdrawn'] else ', which is withdrawn already'}")  # fmt: skip
    what, edges, left = ("would be revoked" if dry_run else "revoked"), set(found["edges"]), not dry_run
    while left:
        done = part(dry_run=False)
        edges.update(done["edges"])
        left = bool(done["left"])
    for edge in sorted(edges):
        say(f"edge/{edge} {what}")
    if found["withdrawn"]:
        say(f"invitation/{group} {'would be withdrawn' if dry_run else 'withdrawn'}")
