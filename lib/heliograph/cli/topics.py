"""``topics``: what the registry declares, for the terminal, as AsyncAPI or as ``topics.md``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command(help="Show every topic: who publishes it, who may listen, what it is for.")(topics)


def topics(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="The AsyncAPI 3 document, as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The reference with all payloads: topics.md.")] = False,
) -> None:
    if asyncapi and markdown:
        from heliograph.bus.errors import Refused

        raise Refused("invalid", field="--asyncapi", expected="one form", got="--asyncapi and --markdown")
    if asyncapi:
        import json

        from heliograph.bus import render

        text = json.dumps(render.asyncapi(), indent=2, ensure_ascii=False) + "\n"
    elif markdown:
        from heliograph.bus.render import topics_markdown

        text = topics_markdown()
    else:
        return _show()
    sys.stdout.write(text)
    sys.stdout.flush()


def _show() -> None:
    from heliograph.bus.topics import DEFAULT_ROOT, TOPICS
    from heliograph.cli.output import show_table

    if sys.stdout.isatty():
        columns = ["TOPIC", "FROM → TO", "WHAT"]
        rows = [
            [each.pattern, f"{', '.join(each.publishers)} → {', '.join(each.subscribers)}", each.doc] for each in TOPICS
        ]
    else:
        columns = ["TOPIC", "DELIVERY", "FROM", "TO", "PAYLOAD", "BRIDGED", "MAX", "STREAM", "WHAT"]
        rows = [
            [
                each.pattern,
                each.delivery,
                ",".join(each.publishers),
                ",".join(each.subscribers),
                each.payload.__name__,
                each.bridged,
                str(each.max_size),
                each.stream.name if each.stream else "",
                each.doc,
            ]
            for each in TOPICS
        ]
    show_table(columns, rows)
    if sys.stdout.isatty():
        print(f"\nAll lie under {DEFAULT_ROOT}/. With payloads: heliograph topics --markdown")
