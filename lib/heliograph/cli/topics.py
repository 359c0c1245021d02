"""``topics``: the declared topics, for the terminal, as AsyncAPI or as ``topics.md``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from heliograph.cli.usage import misused

WIDEST = 120


def register(app: typer.Typer) -> None:
    app.command(help="Show every topic: publishers, subscribers, purpose.")(topics)


def topics(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print the AsyncAPI 3 document as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference of payloads: topics.md.")] = False,
) -> None:
    if asyncapi and markdown:
        raise misused("--asyncapi", expected="one form", got="--asyncapi and --markdown")
    if asyncapi:
        import json

        from heliograph.bus.contract import render

        text = json.dumps(render.asyncapi(), indent=2, ensure_ascii=False) + "\n"
    elif markdown:
        from heliograph.bus.contract.render import topics_markdown

        text = topics_markdown()
    elif sys.stdout.isatty():
        import shutil

        text = _for_people(min(shutil.get_terminal_size().columns, WIDEST))
    else:
        return _show_table()
    sys.stdout.write(text)
    sys.stdout.flush()


def _for_people(width: int) -> str:
    """Return each topic with its roles on one line, and its purpose below."""
    from textwrap import TextWrapper

    from heliograph.bus.contract.registry import declared
    from heliograph.bus.contract.topics import DEFAULT_ROOT
    from heliograph.cli.output import paint

    first = max(len(topic.pattern) for topic in declared().topics) + 2
    roles = TextWrapper(width - first, break_on_hyphens=False)
    doc = TextWrapper(width, initial_indent="    ", subsequent_indent="    ")
    lines = []
    delivery = ""
    for topic in declared().topics:
        if topic.delivery != delivery:
            delivery = topic.delivery
            lines += ["", paint(delivery.upper(), "bold")]
        wrapped = roles.wrap(f"{', '.join(topic.publishers)} → {', '.join(topic.subscribers)}")
        lines += [f"{paint(topic.pattern, 'cyan')}{' ' * (first - len(topic.pattern))}{wrapped[0]}"]
        lines += [" " * first + line for line in wrapped[1:]]
        lines += [paint(line, "dim") for line in doc.wrap(topic.doc)]
    foot = f"All topics are below {DEFAULT_ROOT}/. Their payloads: heliograph topics --markdown"
    return "\n".join([*lines[1:], "", *TextWrapper(width).wrap(foot)]) + "\n"


def _show_table() -> None:
    """Print one topic on each line, for programs."""
    from heliograph.bus.contract.registry import declared
    from heliograph.cli.output import show_table

    columns = ["TOPIC", "DELIVERY", "FROM", "TO", "PAYLOAD", "BRIDGED", "MAX", "STREAM", "WHAT"]
    rows: list[list[str | list[str]]] = [
        [
            topic.pattern,
            topic.delivery,
            list(topic.publishers),
            list(topic.subscribers),
            topic.payload.__name__,
            topic.bridged,
            str(topic.max_size),
            topic.stream.name if topic.stream else "",
            topic.doc,
        ]
        for topic in declared().topics
    ]
    show_table(columns, rows)
