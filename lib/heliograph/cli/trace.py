"""``trace``: record what goes over the topics, look into it, cut it, replay it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heliograph.cli.resources import ServerOption

_RECORD = """Record a cluster's topics into an MCAP file until Ctrl-C.

The file can be opened with Foxglove and the mcap tools. Exit code: 0 nothing is missing, 1 something is, which the
summary names."""
_REPLAY = """Publish a trace's messages again, in their order and at their distances in time.

Each is marked as replayed. Without --topics only what edges and devices observe is told again (telemetry, hard
samples, labels): not tasks, requests, updates, results or status. Exit code: 0 all were published, 1 not all."""
_CHECK = """Feed one component what a trace holds of its inputs, in virtual time, and compare what it says.

Ids, times and generations are ignored. Exit code: 0 it says what was recorded, 1 it does not or could not be given all
its inputs, 2 not understood."""
_CHOSEN = "Only topics that match, as on MQTT but below the root: 'event/#', '+/task/edge-1'; repeatable."
_SINCE = "Seconds from the trace's start, or a time as 2026-11-21T20:15:00Z."

app = typer.Typer(help="Record a cluster's topics, and replay them.", no_args_is_help=False, rich_markup_mode=None)

InArgument = Annotated[Path, typer.Argument(metavar="IN.mcap", help="The trace.")]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT.mcap", help="The trace to be written; must not exist yet.")]
TopicsOption = Annotated[list[str] | None, typer.Option("--topics", metavar="PATTERN", help=_CHOSEN)]
FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help=_SINCE)]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help=_SINCE)]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=[OLD:]NEW", help="Another job=, edge=, service=, …; several with commas, repeatable."),
]
RootOption = Annotated[str, typer.Option(help="First words of every topic on the broker.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="trace")


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from heliograph.cli.usage import EXIT_CODE

        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_CODE)


@app.command(help=_RECORD)
def record(
    out: OutArgument,
    topics: TopicsOption = None,
    server: ServerOption = None,
    seconds: Annotated[float, typer.Option("--for", min=0, metavar="SECONDS", help="End after so long.")] = 0,
    messages: Annotated[int, typer.Option(min=0, metavar="N", help="End after so many.")] = 0,
    past: Annotated[bool, typer.Option("--past", help="Begin with the events that streams hold from before.")] = False,
    with_blobs: Annotated[bool, typer.Option("--with-blobs", help="Take along the weights that events name.")] = False,
    blob_limit: Annotated[int, typer.Option(min=1, metavar="MB", help="Of all weights together.")] = 1024,
    root: RootOption = "heliograph",
) -> int:
    from heliograph.cli.trace_live import Recording, record

    wish = Recording(out, tuple(topics or ("#",)), seconds, messages, with_blobs, blob_limit << 20, past, root)
    return record(server, wish)


@app.command(help=_REPLAY)
def replay(
    trace: InArgument,
    to: Annotated[str | None, typer.Option(metavar="URL", help="nats:// or mqtt://. Default: as for --server.")] = None,
    speed: Annotated[str, typer.Option(metavar="1|10|max", help="Recorded seconds that pass in one.")] = "1",
    topics: TopicsOption = None,
    rename: RenameOption = None,
    since: FromOption = "",
    until: UntilOption = "",
    loop: Annotated[bool, typer.Option("--loop", help="Again and again, until Ctrl-C.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also topics that the registry does not know.")] = False,
    root: Annotated[str, typer.Option(help="First words of every topic. Default: as in the trace.")] = "",
) -> int:
    from heliograph.cli.trace_live import Replay, replay

    wish = Replay(trace, tuple(topics or ()), tuple(rename or ()), speed, since, until, loop, raw, root)
    return replay(to, wish)


@app.command(help=_CHECK)
def check(
    trace: InArgument,
    component: Annotated[str, typer.Option(metavar="NAME", help="coordinator, aggregation or agent.")],
    edge: Annotated[str | None, typer.Option(metavar="NAME", help="The agent's. Default: each in turn.")] = None,
    job: Annotated[str, typer.Option(metavar="NAME", help="Only what is of this job or service.")] = "",
) -> int:
    from heliograph.cli.trace_check import check

    return check(trace, component, edge, job)


@app.command(help="Show what a trace holds.")
def info(
    trace: InArgument,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to show it.")] = "table",
) -> int:
    from heliograph.cli.trace_files import info

    return info(trace, output)


@app.command(help="Print a trace's messages as JSON lines: the body in base64, and decoded where it is a document.")
def cat(
    trace: InArgument, topics: TopicsOption = None, since: FromOption = "", until: UntilOption = ""
) -> None:
    from heliograph.cli.trace_files import cat

    cat(trace, tuple(topics or ()), since, until)


@app.command("filter", help="Write a part of a trace into another.")
def filter_(
    trace: InArgument,
    out: OutArgument,
    topics: TopicsOption = None,
    since: FromOption = "",
    until: UntilOption = "",
) -> None:
    from heliograph.cli.trace_files import filter_trace

    filter_trace(trace, out, tuple(topics or ()), since, until)


@app.command("import", help="Make a trace of JSON lines, as 'cat' and 'export' write them.")
def import_(
    lines: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="JSON lines; - reads stdin.")], out: OutArgument
) -> None:
    from heliograph.cli.trace_files import import_lines

    import_lines(lines, out)


@app.command(help="Write a trace as JSON lines, with its attachments; 'import' makes the same trace of them.")
def export(
    trace: InArgument,
    lines: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Must not exist yet; - writes to stdout.")],
) -> None:
    from heliograph.cli.trace_files import export_lines

    export_lines(trace, lines)
