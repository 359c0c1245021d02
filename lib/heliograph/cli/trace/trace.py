"""``trace``: record a cluster's topics; inspect, filter and replay traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heliograph.cli.asking.requests import ServerOption
from heliograph.cli.usage import examples, without_command

_RECORD = """Record a cluster's topics into an MCAP file until Ctrl-C.

Foxglove and the mcap tools open the file. Exit code: 0 the trace is complete, 1 messages or blobs are missing; the
error names them."""
_REPLAY = """Publish a trace's messages again, in their order and with their intervals.

Each is marked as replayed. Without --topics, replay the observations of edges and devices (telemetry, hard samples,
labels), and no tasks, requests, updates, results or status. Exit code: 0 all were published, 1 some were not."""
_CHECK = """Feed one component its recorded inputs, in virtual time, and compare its messages with the recorded ones.

Ids, times and generations are ignored; signatures in the trace are verified. Exit code: 0 the messages are equal, 1
they differ, inputs are missing or a signature does not hold, 2 the command was not understood."""
_CHOSEN = "Only topics that match an MQTT pattern below the root: 'event/#', '+/task/edge-1'; repeatable."
_SINCE = "Seconds from the trace's start, or a time such as 2026-11-21T20:15:00Z."

app = typer.Typer(help="Record, inspect and replay a cluster's topics.", no_args_is_help=False, rich_markup_mode=None)

InArgument = Annotated[Path, typer.Argument(metavar="IN.mcap", help="The trace.")]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT.mcap", help="The trace to write; must not exist yet.")]
TopicsOption = Annotated[list[str] | None, typer.Option("--topics", metavar="PATTERN", help=_CHOSEN)]
FromOption = Annotated[str, typer.Option("--from", metavar="TIME", help=_SINCE)]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help=_SINCE)]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=[OLD:]NEW", help="New names: job=, edge=, service=, …; comma-separated, repeatable."),
]
RootOption = Annotated[str, typer.Option(help="First words of every topic on the broker.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="trace")


app.callback(invoke_without_command=True)(without_command)


@app.command(help=_RECORD, epilog=examples("heliograph trace record run.mcap --for 60"))
def record(
    out: OutArgument,
    topics: TopicsOption = None,
    server: ServerOption = None,
    seconds: Annotated[float, typer.Option("--for", min=0, metavar="SECONDS", help="Stop after this time.")] = 0,
    messages: Annotated[int, typer.Option(min=0, metavar="N", help="Stop after N messages.")] = 0,
    past: Annotated[bool, typer.Option("--past", help="Begin with the events already in streams.")] = False,
    with_blobs: Annotated[bool, typer.Option("--with-blobs", help="Attach the weights that events name.")] = False,
    blob_limit: Annotated[int, typer.Option(min=1, metavar="MB", help="Largest total size of the weights.")] = 1024,
    keep: Annotated[
        float, typer.Option(min=0, max=36500, metavar="DAYS", help="Its life, after which 'gc --traces' deletes it.")
    ] = 0,
    root: RootOption = "heliograph",
) -> int:
    from heliograph.cli.trace.live import Recording, record

    options = Recording(out, tuple(topics or ("#",)), seconds, messages, with_blobs, blob_limit << 20, past, root,
                        keep)  # fmt: skip
    return record(server, options)


@app.command(help=_REPLAY, epilog=examples("heliograph trace replay run.mcap --speed 10"))
def replay(
    trace: InArgument,
    to: Annotated[str | None, typer.Option(metavar="URL", help="nats:// or mqtt://. Default: as for --server.")] = None,
    speed: Annotated[str, typer.Option(metavar="1|10|max", help="Recorded seconds replayed in each second.")] = "1",
    topics: TopicsOption = None,
    rename: RenameOption = None,
    since: FromOption = "",
    until: UntilOption = "",
    loop: Annotated[bool, typer.Option("--loop", help="Repeat until Ctrl-C.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Include undeclared topics.")] = False,
    root: Annotated[str, typer.Option(help="First words of every topic. Default: as in the trace.")] = "",
    document_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The target's document key: it signs anew what was signed in the trace."),
    ] = None,
) -> int:
    from heliograph.cli.trace.live import Replay, replay

    options = Replay(trace, tuple(topics or ()), tuple(rename or ()), speed, since, until, loop, raw, root,
                     document_key)  # fmt: skip
    return replay(to, options)


@app.command(help=_CHECK, epilog=examples("heliograph trace check run.mcap --component aggregation"))
def check(
    trace: InArgument,
    component: Annotated[str, typer.Option(metavar="NAME", help="coordinator, aggregation or agent.")],
    edge: Annotated[str | None, typer.Option(metavar="NAME", help="The agent's edge. Default: each in turn.")] = None,
    job: Annotated[str, typer.Option(metavar="NAME", help="Only the messages of this job or service.")] = "",
) -> int:
    from heliograph.cli.trace.check_trace import check

    return check(trace, component, edge, job)


@app.command(help="Show the content of a trace.", epilog=examples("heliograph trace info run.mcap"))
def info(
    trace: InArgument,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")] = "table",
) -> int:
    from heliograph.cli.trace.files import info

    return info(trace, output)


@app.command(
    help="Print a trace's messages as JSON lines: the body in base64, and decoded if it is a document.",
    epilog=examples("heliograph trace cat run.mcap --topics 'event/aggregation/#'"),
)
def cat(trace: InArgument, topics: TopicsOption = None, since: FromOption = "", until: UntilOption = "") -> None:
    from heliograph.cli.trace.files import cat

    cat(trace, tuple(topics or ()), since, until)


@app.command(
    "filter",
    help="Copy a part of a trace to a new one.",
    epilog=examples("heliograph trace filter run.mcap part.mcap --topics 'event/#' --from 10 --until 20"),
)
def filter_(
    trace: InArgument,
    out: OutArgument,
    topics: TopicsOption = None,
    since: FromOption = "",
    until: UntilOption = "",
) -> None:
    from heliograph.cli.trace.files import filter_trace

    filter_trace(trace, out, tuple(topics or ()), since, until)


@app.command(
    "import",
    help="Make a trace from the JSON lines of 'cat' and 'export'.",
    epilog=examples("heliograph trace import run.jsonl run.mcap"),
)
def import_(
    lines: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="JSON lines; - reads stdin.")], out: OutArgument
) -> None:
    from heliograph.cli.trace.files import import_lines

    import_lines(lines, out)


@app.command(
    help="Write a trace as JSON lines, with its attachments; 'import' makes the same trace from them.",
    epilog=examples("heliograph trace export run.mcap run.jsonl"),
)
def export(
    trace: InArgument,
    lines: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="Must not exist yet; - writes to stdout.")],
) -> None:
    from heliograph.cli.trace.files import export_lines

    export_lines(trace, lines)
