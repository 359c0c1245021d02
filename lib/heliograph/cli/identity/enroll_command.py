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
                        "heliograph enroll @/etc/heliograph/invitation --node-name \"$(hostname -f)\" --once"),
    )(enroll)  # fmt: skip


def enroll(
    token: Annotated[
        str, typer.Argument(metavar="INVITATION", help="The invitation; - reads it from the input, @FILE from a file.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="EDGE", help="Name of this edge, where the invitation is for several.")
    ] = None,
    node_name: Annotated[
        str | None, typer.Option(metavar="NODE", help="Name of this machine, from which the edge's is made: the"
                                 " invitation's, -, and NODE as a DNS label.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do nothing where this node has enrolled.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The agent's --state directory, or the user's. Default: its own.")
    ] = None,
) -> None:
    import asyncio
    import re

    from heliograph.bus.contract.enrolment_requests import NODE_NAME, edge_of_node
    from heliograph.cli.printing.output import say
    from heliograph.core.identity.invitation_token import InvitationToken
    from heliograph.core.names import LABEL_RULE, is_label
    from heliograph.core.world import World
    from heliograph.enrolment import enroll as make
    from heliograph.server import IDENTITY, VARIABLE, identity_directory, login_directory
    from heliograph.user_enrolment import enroll_user

    if name is not None and node_name is not None:
        raise misused("--node-name", expected="no --name beside it", got="both")
    if once and state is not None and _has_enrolled(state.resolve() / IDENTITY):
        return  # before the invitation is read: it may be gone by now
    invitation = InvitationToken.parse(_read(token))
    if invitation.kind == "user":
        file = asyncio.run(enroll_user(invitation, state or login_directory(invitation.name), World()))
        say(f"user/{invitation.name} enrolled; its login lies in {file.parent}")
        say(f"use it: export {VARIABLE}={file}")
        return
    edge = name or invitation.name
    if node_name is not None:
        edge = edge_of_node(invitation.name, node_name)
    if not is_label(edge):
        raise misused("--name", expected=LABEL_RULE, got=edge)
    directory = identity_directory(edge, state)
    if once and _has_enrolled(directory):
        return
    node = node_name if node_name and re.match(NODE_NAME, node_name) else ""  # another one is none of Kubernetes
    asyncio.run(make(invitation, edge, directory, World(), node=node))
    say(f"edge/{edge} enrolled; its login lies in {directory}")
    where = f" --state {state}" if state is not None else ""
    say(f"start it: heliograph agent --name {edge}{where} --node mqtt://127.0.0.1:1883")


def _read(argument: str) -> str:
    """Return the text of an invitation, at most one character more than any has."""
    import sys

    from heliograph.core.identity.invitation_token import MOST_CHARACTERS

    if argument == "-":
        return sys.stdin.read(MOST_CHARACTERS + 1)
    if argument.startswith("@"):
        with Path(argument[1:]).open(encoding="ascii", errors="replace") as file:
            return file.read(MOST_CHARACTERS + 1)
    return argument


def _has_enrolled(directory: Path) -> bool:
    """Return whether the directory has an edge's login, and say whose."""
    from heliograph.cli.printing.output import say
    from heliograph.enrolment import Enrolment

    known = Enrolment.read(directory)
    if known is not None:
        say(f"edge/{known.edge} has enrolled already; its login lies in {directory}")
    return known is not None
