"""``watch``: a line for each change of a resource until it has ended or is deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from heliograph.cli.exit_codes import DELETED
from heliograph.cli.presentation import UNREADABLE, presentation_of
from heliograph.cli.printing.output import paint

if TYPE_CHECKING:
    from heliograph.cli.progress import Progress
    from heliograph.client import AsyncClient

RETRY = 1.0


def _lines(progress: Progress, document: Mapping[str, Any]) -> list[str]:
    """Return the lines about a document; of one that is not of its kind's shape, that it is unreadable."""
    try:
        return list(progress.lines(document))
    except UNREADABLE as error:
        return [paint(f"{progress.title}: a status that cannot be read ({type(error).__name__})", "yellow")]


async def watch_resource(client: AsyncClient, plural: str, name: str, write: Callable[[str], None]) -> int:
    """Write the changes of a resource until it has ended and return the exit code; survive coordinator restarts."""
    from heliograph.bus.contract.registry import declared
    from heliograph.core.errors import Refused, Unreachable
    from heliograph.core.world import World

    progress = presentation_of(plural).progress(plural[:-1], name, declared().features[plural].ended)
    world = World()
    reachable = True
    while True:
        try:
            async with aclosing(client.resources(plural).watch(name)) as documents:  # type: ignore[type-var]
                async for document in documents:
                    reachable = True
                    for line in _lines(progress, document):
                        write(line)
                    if progress.ended or progress.deleted:
                        break
            break
        except Refused as error:
            if error.code != "not-found" or not progress.uid:
                raise
            break
        except Unreachable as error:
            if not progress.uid:
                raise
            if reachable:
                write(paint(f"{error}; waiting", "yellow"))
            reachable = False
            await world.sleep(RETRY)
    if progress.ended:
        return progress.exit_code
    write(paint(f"{progress.title} deleted", "yellow"))
    return DELETED
