"""The connection of a command to the cluster, and the refusals of what it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

T = TypeVar("T")
CONNECT_TIMEOUT = 2.5
"""Seconds for one whole attempt, and for a broker that is just starting."""
REQUEST_TIMEOUT = 5.0

_SERVER = (
    "nats:// or mqtt:// URL of the cluster, or a user's cluster.json. "
    "Default: HELIOGRAPH_SERVER, or the cluster of 'heliograph up'."
)
ServerOption = Annotated[str | None, typer.Option(metavar="URL", help=_SERVER)]


@contextmanager
def about(plural: str, name: str) -> Iterator[None]:
    """Make a refusal name the resource as typed, and the command that lists the others."""
    from heliograph.core.errors import Refused

    try:
        yield
    except Refused as error:
        if error.code != "not-found":
            raise
        hint = f"List them with 'heliograph get {plural}'."
        place = f"{plural[:-1]}/{name}"
        raise Refused(error.code, topic=place, expected=error.expected, got=name, hint=hint) from None


def ask(server: str | None, what: Callable[[AsyncClient], Awaitable[T]]) -> T:
    import asyncio

    from heliograph.client import AsyncClient
    from heliograph.core.world import World
    from heliograph.server import locate
    from heliograph.user_enrolment import renew_if_due

    async def main() -> T:
        await renew_if_due(locate(server), World())
        client = AsyncClient(server, timeout=REQUEST_TIMEOUT, connect_timeout=CONNECT_TIMEOUT)
        async with client:
            return await what(client)

    return asyncio.run(main())
