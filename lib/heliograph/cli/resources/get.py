"""``get``: resources as tables, names, JSON, YAML or by JSONPath; selected by labels, sorted, and followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import KindsArgument, NamesArgument, targets
from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.cli.printing.output_forms import Form
    from heliograph.client import AsyncClient

_GET = """Show resources, as kubectl does.

Commas separate several kinds, and spaces several names. -o wide adds columns; -o name prints KIND/NAME; -o json and
-o yaml print whole documents; -o jsonpath='{.status.phase}' prints what a JSONPath template makes of them, and of a
list below .items."""
_SELECTOR = "Only resources whose labels match: team=a,tier!=test,'env in (prod,stage)',owner,'!old'."
_EXAMPLES = (
    "heliograph get jobs -o wide --sort-by .metadata.creationTimestamp",
    "heliograph get edges -l site=north -w",
    "heliograph get jobs,services",
    "heliograph get jobs/digits -o jsonpath='{.status.phase}'",
)


def register(app: typer.Typer) -> None:
    app.command(help=_GET, epilog=examples(*_EXAMPLES))(get)


def get(
    resource: KindsArgument,
    names: NamesArgument = None,
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

    wanted = targets(resource, names or ())
    form = Form.parse(output, show_labels, not no_headers)
    _check_selector(selector, wanted)
    if output_watch_events and not watch:
        raise misused("--output-watch-events", expected="--watch with it", got="this option alone")
    if sort_by:
        sorted_by([], sort_by)  # a mistake is said before anything is asked
    if watch:
        (plural, named), *more = wanted.items()
        if more or len(named) > 1:
            raise misused("--watch", expected="one kind, or one resource", got=" ".join((resource, *(names or ()))))
        with about(plural, named[0] if named else ""):
            _follow(plural, named[0] if named else None, selector, form, output_watch_events, server)
        return
    found = ask(server, lambda client: _fetched(client, wanted, selector))
    show({plural: sorted_by(each, sort_by) for plural, each in found.items()} if sort_by else found,
         form, single=list(map(len, wanted.values())) == [1])  # fmt: skip


async def _fetched(
    client: AsyncClient, wanted: Mapping[str, Sequence[str]], selector: str
) -> dict[str, list[dict[str, Any]]]:
    """Return the resources asked for by kind. Raise the first refusal: nothing is printed then."""
    found: dict[str, list[dict[str, Any]]] = {}
    for plural, names in wanted.items():
        resources = client.resources(plural)
        found[plural] = [] if names else await resources.list(selector=selector)
        for name in names:
            with about(plural, name):
                found[plural].append(await resources.get(name))
    return found


def _check_selector(selector: str, wanted: Mapping[str, Sequence[str]]) -> None:
    """Raise typer.BadParameter for a selector that does not parse, or beside a name."""
    from heliograph.core.errors import Refused
    from heliograph.core.selector import Selector

    if selector and any(wanted.values()):
        named = " ".join(f"{plural}/{name}" for plural, names in wanted.items() for name in names)
        raise misused("--selector", expected="a kind alone", got=f"{named} and {selector}")
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
