"""``gc``: delete what has come to the end of its life, in the cloud and among the traces of a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, ask

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

EXAMPLE = "Example: heliograph gc --dry-run"


def register(app: typer.Typer) -> None:
    app.command(
        help="Delete what nobody needs any more: old versions of models, blobs that nothing names, cut uploads and "
        "records of rounds; with --traces traces whose life is over. What is deployed or named is never deleted.",
        epilog=EXAMPLE,
    )(gc)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    traces: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Only delete the traces below DIR whose stated life is over (record --keep)."),
    ] = None,
    server: ServerOption = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Form of the output.")] = "table",
) -> None:
    from heliograph.cli.usage import misused

    if traces is None:
        found = ask(server, lambda client: _collected(client, dry_run))
    elif not traces.is_dir():
        raise misused("--traces", expected="a directory", got=str(traces))
    else:
        found = _old_traces(traces, dry_run)
    _show(found, dry_run, output)


async def _collected(client: AsyncClient, dry_run: bool) -> dict[str, Any]:
    """Collect until nothing is left; a dry run names as much as one answer has room for."""
    found: dict[str, Any] = {"items": [], "notes": [], "more": True}
    while found["more"]:
        part = await client.models.collect(dry_run=dry_run)
        found["items"] += part["items"]
        found |= {"notes": part["notes"], "more": part["more"]}
        if dry_run or not part["items"]:
            break
    return found


def _old_traces(directory: Path, dry_run: bool) -> dict[str, Any]:
    from heliograph.bus.traces.life import old_traces
    from heliograph.core.world import World

    found, notes = old_traces(directory, World().now())
    items = []
    for path, ended in found:
        size = path.stat().st_size
        if not dry_run:
            path.unlink()
        items.append({"kind": "trace", "name": str(path), "size": size, "reason": f"its life ended at {ended}"})
    return {"items": items, "notes": notes, "more": False}


def _show(found: dict[str, Any], dry_run: bool, output: str) -> None:
    import json

    from heliograph.cli.cells import size
    from heliograph.cli.printing.output import printable, say, show_table

    items = found["items"]
    if output == "json":
        say(json.dumps({"dryRun": dry_run, **found}, indent=2, ensure_ascii=False))
        return
    if items:
        show_table(["KIND", "NAME", "SIZE", "WHY"],
                   [[each["kind"], each["name"], size(each["size"]).replace(" ", ""), each["reason"]]
                    for each in items])  # fmt: skip
    total = size(sum(each["size"] for each in items))
    what = f"{len(items)}{' and more' if found['more'] else ''}, {total}" if items else "nothing"
    say(f"{what} {'would be deleted' if dry_run else 'deleted'}")
    for note in found["notes"]:
        say(f"note: {printable(note)}")
