"""``enroll``: a node or a user makes its key and gets its login, by an invitation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.usage import examples, misused


def register(main: typer.Typer) -> None:
    main.command(
        help="Enrol this node, or you as a user, by an invitation: make the key, and get the login.",
        epilog=examples("heliograph enroll heliograph-invitation.…",
                        "heliograph enroll heliograph-invitation.… --name hall-3",
                        "heliograph enroll - --once --node node-3.example.org --state /var/lib/heliograph/state"),
    )(enroll)  # fmt: skip


def enroll(
    token: Annotated[str, typer.Argument(metavar="INVITATION", help="The invitation; - reads it from the input.")],
    name: Annotated[
        str | None, typer.Option(metavar="EDGE", help="Name of this edge, where the invitation is for several.")
    ] = None,
    node: Annotated[
        str | None, typer.Option(metavar="NODE", help="Name of this machine, which may hold dots: of an invitation for"
                                 " several the edge is INVITATION-NODE.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do nothing on a node that has enrolled: neither the cloud nor an invitation"
                           " is needed then.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The agent's --state directory, or the user's. Default: its own.")
    ] = None,
) -> None:  # fmt: skip
    import asyncio
    import sys

    from heliograph.cli.printing.output import say
    from heliograph.core.identity.invitation_token import MOST_CHARACTERS, InvitationToken
    from heliograph.core.names import LABEL_RULE, edge_of_node, is_label
    from heliograph.core.world import World
    from heliograph.enrolment import Enrolment
    from heliograph.enrolment import enroll as make
    from heliograph.server import VARIABLE, identity_directory, login_directory
    from heliograph.user_enrolment import enroll_user

    if name is not None and node is not None:
        raise misused("--node", expected="--name or --node", got="both")
    if once and state is None:
        raise misused("--once", expected="--state too, the directory with this node's login", got="none")
    if once and (enrolled := Enrolment.read(identity_directory("", state))) is not None:
        say(f"edge/{enrolled.edge} has enrolled here; nothing is asked of the cloud")
        return
    invitation = InvitationToken.parse(sys.stdin.read(MOST_CHARACTERS + 1) if token == "-" else token)
    if invitation.kind == "user":
        file = asyncio.run(enroll_user(invitation, state or login_directory(invitation.name), World()))
        say(f"user/{invitation.name} enrolled; its login lies in {file.parent}")
        say(f"use it: export {VARIABLE}={file}")
        return
    try:
        edge = edge_of_node(invitation.name, node) if node is not None else name or invitation.name
    except ValueError as error:
        raise misused("--node", expected=str(error).removeprefix("expected "), got=node) from None
    if not is_label(edge):
        raise misused("--name", expected=LABEL_RULE, got=edge)
    directory = identity_directory(edge, state)
    asyncio.run(make(invitation, edge, directory, World()))
    say(f"edge/{edge} enrolled; its login lies in {directory}")
    where = f" --state {state}" if state is not None else ""
    say(f"start it: heliograph agent --name {edge}{where} --node mqtt://127.0.0.1:1883")
