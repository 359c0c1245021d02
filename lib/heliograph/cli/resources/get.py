"""``get``: resources as tables, names, JSON, YAML or by JSONPath; selected by labels, sorted, and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import KindArgument, NameArgument, target
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.cli.printing.output_forms import Form

_GET = """Show resources, as kubectl does.

-o wide adds columns; -o name prints KIND/NAME; -o json and -o yaml print whole documents; -o jsonpath='{.status.phase}'
prints what a JSONPath template makes of them, and of a list below .items."""
_SELECTOR = "Only resources whose labels match: team=a,tier!=test,'env in (prod,stage)',owner,'!old'."
_EXAMPLES = (
    "heliograph get jobs -o wide --sort-by .metadata.creationTimestamp",
    "heliograph get edges -l site=north -w",
    "heliograph get jobs/digits -o jsonpath='{.status.phase}'",
)


def register(app: typer.Typer) -> None:
    app.command(help=_GET, epilog=examples(*_EXAMPLES))(get)


def get(
    resource: KindArgument,
    name: NameArgument = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FORM", help="table, wide, name, json, yaml or jsonpath=TEMPLATE."),
    ] = "table",
    selector: Annotated[str, typer.Option("--selector", "-l", metavar="LABELS", help=_SELECTOR)] = "",
    sort_by: Annotated[str, typer.Option(metavar="PATH", help="Sort by a JSONPath: .metadata.name.")] = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, and print each change; of one job until it ends.")
    ] = False,
    output_watch_events: Annotated[
        bool, typer.Option("--output-watch-events", help="Say ADDED, MODIFIED or DELETED at each change.")
    ] = False,
    show_labels: Annotated[bool, typer.Option("--show-labels", help="Add a column with the labels.")] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave out the columns' names.")] = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output_forms import Form, show, sorted_by

    plural, one = target(resource, name)
    form = Form.parse(output, show_labels, not no_headers)
    _check_selector(selector, plural, one)
    if output_watch_events and not watch:
        raise misused("--output-watch-events", expected="--watch with it", got="this option alone")
    if sort_by:
        sorted_by([], sort_by)  # a mistake is said before anything is asked
    with about(plural, one):
        if watch:
            _follow(plural, one, selector, form, output_watch_events, server)
        elif one is not None:
            show(plural, [ask(server, lambda client: client.resources(plural).get(one))], form, single=True)
        else:
            found = ask(server, lambda client: client.resources(plural).list(selector=selector))
            show(plural, sorted_by(found, sort_by) if sort_by else found, form, single=False)


def _check_selector(selector: str, plural: str, name: str | None) -> None:
    """Raise typer.BadParameter for a selector that does not parse, or beside a name."""
    from heliograph.core.errors import Refused
    from heliograph.core.selector import Selector

    if selector and name is not None:
        raise misused("--selector", expected="a kind alone", got=f"{plural}/{name} and {selector}")
    try:
        Selector.parse(selector)
    except Refused as error:
        raise misused("--selector", expected=error.expected, got=error.got) from None


def _follow(plural: str, name: str | None, selector: str, form: Form, events: bool, server: str | None) -> None:
    from heliograph.cli.printing.output_forms import Rows
    from heliograph.cli.resources.follow_changes import follow_changes, follow_one

    rows = Rows(plural, form, events)
    if name is None:
        ask(server, lambda client: follow_changes(client, plural, selector, rows.show))
    else:
        ask(server, lambda client: follow_one(client, plural, name, rows.show))
