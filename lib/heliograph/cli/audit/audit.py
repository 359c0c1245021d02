"""``audit``: who asked the coordinator for what, and what was decided; ``audit verify`` checks that none is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, ask
from heliograph.cli.usage import examples

_AUDIT = """Show who asked for what, and what was decided: requests that change something, refusals for lack of rights.

The records come from a stream that only operators read, over NATS."""
_VERIFY = """Verify the audit: no record was changed, taken out or put in.

Print the number and the hash of the newest record; --head names an earlier one, which shows whether the end is missing.
Exit code: 0 the chain holds, 1 it does not."""
_KEYS = "Public keys of the coordinators (coordinator-keys.pem): every record needs a signature by one of them."

app = typer.Typer(help=_AUDIT, rich_markup_mode=None)


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="audit")


@app.callback(
    invoke_without_command=True,
    epilog=examples("heliograph audit --who alice --what jobs/delete --since 1d", "heliograph audit verify"),
)
def audit(
    context: typer.Context,
    who: Annotated[str, typer.Option(metavar="NAME", help="Only what this caller asked for.")] = "",
    what: Annotated[str, typer.Option(metavar="TEXT", help="Only requests with this text: jobs/delete, models.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="Age, or time, of the first record. Default: all.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="json: one a line.")] = "table",
    server: ServerOption = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from heliograph.cli.audit.records import Wanted, as_json, line_of, show
    from heliograph.cli.events.since import parse_since
    from heliograph.cli.printing.output import say
    from heliograph.core.world import World

    begin = parse_since(since, World().now()) if since else 0.0
    form = as_json if output == "json" else line_of
    wanted = Wanted(who, what, refused)
    shown = ask(server, lambda client: show(client, wanted, begin, follow, lambda *each: say(form(*each))))
    if not shown:
        typer.echo("there are no such records", err=True)


@app.command(help=_VERIFY, epilog=examples("heliograph audit verify --coordinator-keys coordinator-keys.pem"))
def verify(
    head: Annotated[str, typer.Option(metavar="N:HASH", help="A record that an earlier verification printed.")] = "",
    coordinator_keys: Annotated[Path | None, typer.Option(metavar="FILE", help=_KEYS)] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.bus.contract.audit_chain import Head
    from heliograph.cli.audit.records import check
    from heliograph.cli.printing.output import printable, say
    from heliograph.core.ed25519_signer import public_keys
    from heliograph.core.errors import HeliographError

    known = Head.parse(head) if head else None
    trusted = public_keys(coordinator_keys) if coordinator_keys is not None else frozenset[bytes]()
    found = ask(server, lambda client: check(client, known, trusted))
    for line in found.problems[:20]:
        say(f"wrong: {printable(line)}")
    if found.problems:
        raise HeliographError(f"the audit does not hold: {len(found.problems)} problems up to record {found.head.n}")
    if not found.head.n:
        say("the audit has no record yet")
        return
    signed = ", each signed by a coordinator" if trusted else ""
    say(f"records {found.begins} to {found.head.n} hold{signed}; head {found.head}")
