"""Follow all resources of one kind: what a client yields of their changes.

The messages of the kind's status are hints that there is something new; what it is, the coordinator answers. A lost
message therefore delays a change, and hides none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from heliograph.bus.transport import Message
from heliograph.core.errors import Refused

ASK_EVERY = 5.0
"""Seconds without a hint after which the coordinator is asked even so."""


@dataclass(frozen=True)
class Page:
    """Some resources of one kind.

    Attributes:
        version: version of the kind when the page was made.
        more: whether another page follows.
    """

    documents: list[dict[str, Any]]
    version: str
    more: bool = False


@dataclass(frozen=True)
class ResourceChange:
    """A resource that has changed.

    Attributes:
        document: its newest document; None where it was deleted, or is not selected any more.
        version: version of the kind to go on from: this change is not told again, those before it may be.
    """

    name: str
    document: dict[str, Any] | None
    version: str


class Source(Protocol):
    """The requests that following takes; ``client.Resources`` has them."""

    def pages(self, *, selector: str = "") -> AsyncIterator[Page]: ...
    async def changed_since(self, version: str, *, selector: str = "") -> dict[str, Any]: ...


async def follow(
    source: Source, hints: AsyncIterator[Message], selector: str, since: str
) -> AsyncIterator[ResourceChange]:
    """Yield changes without end; see ``Resources.changes``. Raise Refused where ``since`` is not remembered."""
    known: dict[str, str] = {}
    version = since
    while True:
        try:
            changes, version, more = await _newest(source, selector, version, known, told_all=not since)
        except Refused as error:
            if error.code != "expired" or since:  # whoever began in the middle does not know what was deleted
                raise
            version = ""
            continue
        for change in changes:
            yield change
        if not more:
            await _wait(hints)


async def _newest(
    source: Source, selector: str, version: str, known: dict[str, str], told_all: bool
) -> tuple[list[ResourceChange], str, bool]:
    """Return what has changed since ``version``, without one since it was ``known``; the version reached; and whether
    there is more.

    Args:
        known: by name, what identifies the document that was yielded last.
        told_all: whether every resource that there was has been yielded.
    """
    if not version:
        pages = [page async for page in source.pages(selector=selector)]
        documents, reached, more = [each for page in pages for each in page.documents], pages[0].version, False
        gone = [*known.keys() - {each["metadata"]["name"] for each in documents}]
    else:
        answer = await source.changed_since(version, selector=selector)
        documents, gone, reached, more = answer["result"], answer["gone"], answer["version"], answer["more"]
    found: list[tuple[str, dict[str, Any] | None]] = []
    for each in documents:
        metadata = each["metadata"]
        identity = f"{metadata.get('uid')} {metadata.get('resourceVersion')}"
        if known.get(metadata["name"]) != identity:
            known[metadata["name"]] = identity
            found.append((metadata["name"], each))
    for name in sorted(gone):
        if known.pop(name, None) is not None or not told_all:
            found.append((name, None))
    # who stops in the middle hears the others again
    changes = [ResourceChange(name, document, version) for name, document in found[:-1]]
    return [*changes, *(ResourceChange(*each, reached) for each in found[-1:])], reached, more


async def _wait(hints: AsyncIterator[Message]) -> None:
    """Wait for a hint, ``ASK_EVERY`` at most, and take those that have come with it."""
    wait = ASK_EVERY
    while True:
        try:
            async with asyncio.timeout(wait):
                await anext(hints)
        except TimeoutError:
            return
        wait = 0.0
