"""``topics``: the declared topics, for the terminal, as AsyncAPI or as ``topics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.bus.contract.permissions import Place
    from heliograph.bus.contract.topics import Role

WIDEST = 120
_LOGINS: Mapping[Place, Mapping[str, Role]] = {
    "cloud": {"user": "user", "operator": "operator", "coordinator": "coordinator"},
    "node": {"user": "user", "agent": "agent", "worker": "worker"},
}
"""The roles that log in at a broker of each place."""


def register(app: typer.Typer) -> None:
    app.command(
        help="Show every topic: publishers, subscribers, purpose.",
        epilog=examples("heliograph topics", "heliograph topics --mosquitto-acl cloud --login alice=user > door.acl"),
    )(topics)


def topics(
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print the AsyncAPI 3 document as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference of payloads: topics.md.")] = False,
    mosquitto_acl: Annotated[
        Literal["cloud", "node"] | None,
        typer.Option("--mosquitto-acl", help="Print mosquitto's access rules for a door or a node's broker."),
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ROLE", help="A login in these rules: user, operator, coordinator, agent, worker."),
    ] = None,
) -> None:
    forms = {"--asyncapi": asyncapi, "--markdown": markdown, "--mosquitto-acl": mosquitto_acl}
    if len(given := [name for name, value in forms.items() if value]) > 1:
        raise misused(given[0], expected="one form", got=" and ".join(given))
    if login and mosquitto_acl is None:
        raise misused("--login", expected="--mosquitto-acl with it", got=login[0])
    if mosquitto_acl is not None:
        from heliograph.bus.contract.mosquitto_acl import mosquitto_acl as rules

        text = rules(mosquitto_acl, _logins(login or (), mosquitto_acl))
    elif asyncapi:
        import json

        from heliograph.bus.contract import asyncapi as document

        text = json.dumps(document.asyncapi(), indent=2, ensure_ascii=False) + "\n"
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


def _logins(given: Iterable[str], place: Place) -> dict[str, Role]:
    roles = _LOGINS[place]
    found: dict[str, Role] = {}
    for text in given:
        name, _, role = text.partition("=")
        if not name or role not in roles or set(name) & set("#+ \t\r\n"):
            raise misused("--login", expected=f"NAME=ROLE with ROLE of {', '.join(roles)}", got=text)
        found[name] = roles[role]
    return found


def _for_people(width: int) -> str:
    """Return each topic with its roles on one line, and its purpose below."""
    from textwrap import TextWrapper

    from heliograph.bus.contract.registry import declared
    from heliograph.bus.contract.topics import DEFAULT_ROOT
    from heliograph.cli.printing.output import paint

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
    from heliograph.cli.printing.output import show_table

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
