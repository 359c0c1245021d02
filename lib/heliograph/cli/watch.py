"""``watch``: what happens to a job until it ends, or to a service until it is deleted, a line each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from heliograph.cli.job_progress import JobProgress
from heliograph.cli.output import paint
from heliograph.cli.progress import Progress
from heliograph.cli.service_progress import ServiceProgress

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

DELETED = 3
RETRY = 1.0
_PROGRESS: dict[str, Callable[[str], Progress]] = {"jobs": JobProgress, "services": ServiceProgress}


async def watch_resource(client: AsyncClient, plural: str, name: str, tell: Callable[[str], None]) -> int:
    """Tells what happens to a job or service until it has ended; returns the exit code. Outlives a coordinator that
    restarts."""
    from heliograph.core.errors import Refused, Unreachable
    from heliograph.core.world import World

    progress = _PROGRESS[plural](name)
    world = World()
    reachable = True
    while True:
        try:
            async with aclosing(client.resources(plural).watch(name)) as documents:  # type: ignore[type-var]
                async for document in documents:
                    reachable = True
                    for line in progress.lines(document):
                        tell(line)
                    if progress.phase in progress.ends or progress.deleted:
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
                tell(paint(f"{error}; waiting", "yellow"))
            reachable = False
            await world.sleep(RETRY)
    if progress.phase in progress.ends and not progress.deleted:
        return progress.ends[progress.phase]
    tell(paint(f"{progress.title} deleted", "yellow"))
    return DELETED
