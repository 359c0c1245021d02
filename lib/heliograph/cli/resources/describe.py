"""``describe``: one resource in full for people: spec, status, conditions, and its newest events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import KindArgument, NameArgument, target
from heliograph.cli.usage import examples

if TYPE_CHECKING:
    from heliograph.cli.events.happened import Happened
    from heliograph.client import AsyncClient

_DESCRIBE = """Show a resource in full, with its newest events.

Without a name all of the kind. Long lists and large values are cut; 'heliograph get KIND/NAME -o yaml' has all. Events
are shown to an operator."""
EVENTS = 10
"""Newest events that are shown."""
EVENTS_SINCE = 3600.0


def register(app: typer.Typer) -> None:
    app.command(help=_DESCRIBE, epilog=examples("heliograph describe jobs/digits"))(describe)


def describe(
    resource: KindArgument,
    name: NameArgument = None,
    events: Annotated[bool, typer.Option("--events/--no-events", help="Whether to show events.")] = True,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.cli.resources.description import lines_of
    from heliograph.core.world import World

    plural, one = target(resource, name)
    with about(plural, one):
        found = ask(server, lambda client: _read(client, plural, one, events, World().now()))
    if not found:
        typer.echo(f"there are no {plural}", err=True)
    for number, (document, happened) in enumerate(found):
        if number:
            say("")
        for line in lines_of(document, happened, World().now()):
            say(line)


async def _read(
    client: AsyncClient, plural: str, name: str | None, events: bool, now: float
) -> list[tuple[Mapping[str, Any], Sequence[Happened] | None]]:
    """Return the resources, each with its newest events; None where this login may not read them."""
    resources = client.resources(plural)
    documents = await resources.list() if name is None else [await resources.get(name)]
    return [(each, await _events(client, plural, each["metadata"]["name"], now) if events else None)
            for each in documents]  # fmt: skip


async def _events(client: AsyncClient, plural: str, name: str, now: float) -> Sequence[Happened] | None:
    from heliograph.cli.events.happened import chosen_topics, newest_events, patterns_of
    from heliograph.core.errors import HeliographError

    patterns = patterns_of(chosen_topics(()), (plural, name))
    if not patterns:
        return None
    try:
        return await newest_events(client, patterns, now - EVENTS_SINCE, EVENTS)
    except HeliographError:  # MQTT, a login that may not, a coordinator without such a stream: the rest is shown
        return None
