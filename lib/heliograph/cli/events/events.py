"""``events``: what has happened, from the streams that keep it: updates, closed rounds, hard samples, telemetry, …"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, ask
from heliograph.cli.asking.targets import SecondWord, target
from heliograph.cli.usage import examples, misused

_EVENTS = """Show what has happened, in all or to one resource.

Updates, closed rounds, evaluations, hard samples, telemetry. They come from the broker's streams, which an operator
may read over NATS, and are as old as each stream keeps them."""
_TYPES = "Only events of this topic: model-update, aggregation, hard-sample, …; repeatable. 'all' adds steady ones."


def register(app: typer.Typer) -> None:
    app.command(
        help=_EVENTS,
        epilog=examples("heliograph events jobs/digits --since 10m", "heliograph events -w --types aggregation"),
    )(events)


def events(
    resource: Annotated[
        str | None, typer.Argument(metavar="[KIND/NAME]", help="Only events about this resource; or two words.")
    ] = None,
    name: SecondWord = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="Age, or time, of the first event.")] = "1h",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    types: Annotated[list[str] | None, typer.Option("--types", metavar="TOPIC", help=_TYPES)] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="json: one a line.")] = "table",
    server: ServerOption = None,
) -> None:
    from heliograph.cli.events.happened import as_json, chosen_topics, line_of, patterns_of, show_events
    from heliograph.cli.events.since import parse_since
    from heliograph.cli.printing.output import say
    from heliograph.core.world import World

    about = target(resource, name, verb="get") if resource is not None else None
    patterns = patterns_of(chosen_topics(types or ()), about)
    if about is not None and not patterns:
        of = f", by --types {' '.join(types)}" if types else ""
        raise misused("KIND/NAME", expected="a job, service or edge that the events name",
                      got=f"{about[0]}/{about[1]}{of}")  # fmt: skip
    begin = parse_since(since, World().now())
    form = as_json if output == "json" else line_of
    shown = ask(server, lambda client: show_events(client, patterns, begin, watch, lambda each: say(form(each))))
    if not shown:
        typer.echo(f"there are no events since {since}", err=True)
