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

    async def main() -> T:
        await _keep_login(server)
        client = AsyncClient(server, timeout=REQUEST_TIMEOUT, connect_timeout=CONNECT_TIMEOUT)
        async with client:
            return await what(client)

    return asyncio.run(main())


async def _keep_login(server: str | None) -> None:
    """Renew the login of a user that has enrolled, once half of its life is over."""
    from heliograph.bus.connection_url import ConnectionUrl
    from heliograph.core.world import World
    from heliograph.server import locate

    url, world = locate(server).url, World()
    login = ConnectionUrl.parse(url).credentials.read()
    if login is None or login.key is None or not login.claims.expires or world.now() < login.claims.renew_at:
        return
    from heliograph.user_enrolment import renew_user  # loaded twice a month, by a user that has enrolled

    await renew_user(url, login.claims, world)
