"""``user invite``, ``grant``, ``revoke`` and ``token``: people and programs get logins, scopes, and lose them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heliograph.bus.contract.scopes import DEFAULT_PROJECT, SCOPES
from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.usage import examples, without_command

app = typer.Typer(help="Invite users, and say what they may do.", invoke_without_command=True)
UserArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.")]
ProjectOption = Annotated[str, typer.Option(metavar="PROJECT", help="The project in which the scope holds.")]


def register(main: typer.Typer) -> None:
    app.callback()(without_command)
    app.command(
        help="Print an invitation, by which a user gets a login, and grant a scope.",
        epilog=examples("heliograph user invite alice", "heliograph user invite bob --scope admin --project north"),
    )(invite)  # fmt: skip
    app.command(
        help=f"Grant a user a scope in a project: {', '.join(SCOPES)}; none takes it away.",
        epilog=examples("heliograph user grant alice admin", "heliograph user grant alice none --project north"),
    )(grant)  # fmt: skip
    app.command(help="Take a user's logins away: its connections end.",
                epilog=examples("heliograph user revoke alice"))(revoke)  # fmt: skip
    app.command(
        help="Write a password for MQTT into a file, for the user who asks.",
        epilog=examples("heliograph user token mqtt-password --days 7"),
    )(token)  # fmt: skip
    main.add_typer(app, name="user")


def invite(
    name: UserArgument,
    scope: Annotated[str, typer.Option(metavar="SCOPE", help=f"One of {', '.join(SCOPES)}.")] = "submitter",
    project: ProjectOption = DEFAULT_PROJECT,
    minutes: Annotated[int, typer.Option(min=1, max=43_200, metavar="N", help="How long it is good.")] = 60,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="nats:// or tls:// URL of the broker for the user. Default: the"
                                 " one that this command uses.")
    ] = None,
    server: ServerOption = None,
) -> None:  # fmt: skip
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say
    from heliograph.invitations import invite_user

    name, project = label_in(name, "users"), label_in(project, where="--project")
    made = ask(server, lambda client: invite_user(client, name, scope=_scope(scope, "--scope"), project=project,
                                                  seconds=60 * minutes, address=address))  # fmt: skip
    say(made.text())


def grant(
    name: UserArgument,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help=f"One of {', '.join(SCOPES)}, or none.")],
    project: ProjectOption = DEFAULT_PROJECT,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say
    from heliograph.invitations import change_user

    name, project = label_in(name, "users"), label_in(project, where="--project")
    granted = scope if scope == "none" else _scope(scope, "SCOPE")
    changed = ask(server, lambda client: change_user(client, name, {project: granted}))
    scopes = [f"{each['scope']} in {each['project']}" for each in changed["spec"].get("grants", ())]
    say(f"user/{name}: {', '.join(scopes) or 'no scope in any project'}")


def revoke(name: UserArgument, server: ServerOption = None) -> None:
    from heliograph.cli.asking.targets import label_in
    from heliograph.cli.printing.output import say

    name = label_in(name, "users")
    with about("users", name):
        ask(server, lambda client: client.users.delete(name))
    say(f"user/{name} revoked")


def token(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the password; you alone may read it.")],
    days: Annotated[int, typer.Option(min=1, max=366, metavar="N", help="How long it is good.")] = 30,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.private_files import write_private

    made = ask(server, lambda client: client.users.ask("token", seconds=86_400 * days))
    write_private(file, made["token"])
    say(f"user {made['user']}: the password for MQTT lies in {file}, good for {days} days")


def _scope(given: str, field: str) -> str:
    from heliograph.cli.usage import misused

    if given not in SCOPES:
        raise misused(field, expected=f"one of {', '.join(SCOPES)}", got=given)
    return given
