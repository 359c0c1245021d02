"""``get -w``: the resources of a kind now, and each change of them until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Forbidden, Refused, Unreachable
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

Document = dict[str, Any]
Write = Callable[[str, Document], None]
"""Called with ADDED, MODIFIED or DELETED, and the document; of a deleted resource its last one."""
RETRY = 1.0


async def follow_changes(client: AsyncClient, plural: str, selector: str, write: Write) -> None:
    """Write the selected resources of a kind, and then each change. Ends only when it is cancelled; where the cluster
    cannot be reached any more, it waits."""
    known: dict[str, Document] = {}
    world, since, reached, waits = World(), "", False, False
    while True:
        try:
            async for change in client.resources(plural).changes(since=since, selector=selector):
                reached, waits, since = True, False, change.version
                _tell(change.name, change.document, known, write)
        except Refused as error:
            if error.code != "expired":
                raise
            since = ""  # another coordinator leads: what there is now is told, where it differs
            await _forget_deleted(client, plural, selector, known, write)
        except Unreachable as error:
            if isinstance(error, Forbidden) or not reached:
                raise
            if not waits:
                print(f"{error}; waiting", file=sys.stderr, flush=True)
            waits = True
            await world.sleep(RETRY)


async def follow_one(client: AsyncClient, plural: str, name: str, write: Write) -> None:
    """Write a resource, and then each change of it, until it has ended or is deleted."""
    known: dict[str, Document] = {}
    try:
        async for document in client.resources(plural).watch(name):
            _tell(name, document, known, write)
        _tell(name, await client.resources(plural).get(name), known, write)
    except Refused as error:
        if error.code != "not-found" or not known:
            raise
        _tell(name, None, known, write)


def _tell(name: str, document: Document | None, known: dict[str, Document], write: Write) -> None:
    """Write a change, unless it is known."""
    before = known.get(name)
    if document is None:
        if before is not None:
            del known[name]
            write("DELETED", before)
        return
    if document == before:
        return
    known[name] = document
    again = before is not None and before["metadata"].get("uid") == document["metadata"].get("uid")
    write("MODIFIED" if again else "ADDED", document)


async def _forget_deleted(
    client: AsyncClient, plural: str, selector: str, known: dict[str, Document], write: Write
) -> None:
    present = {each["metadata"]["name"] for each in await client.resources(plural).list(selector=selector)}
    for name in [each for each in known if each not in present]:
        _tell(name, None, known, write)
