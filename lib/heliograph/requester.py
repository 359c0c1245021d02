"""A client's connection to a cluster, and the requests that it sends to the coordinator over it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Self, TypeVar

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.link_trouble import trouble_of
from heliograph.bus.reply import TOO_MANY
from heliograph.bus.transport import Message
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, Refused, Unreachable
from heliograph.core.world import World
from heliograph.resource_requests import Document
from heliograph.server import Server

T = TypeVar("T")
TIMEOUT = 10.0
REPEAT_AFTER = 3.0
"""Seconds without an answer after which a request is sent again. A deletion is not: the answer to the second would be
that there is no such resource."""
REPEATED_MOST = 4096
"""Bytes of a request that is sent again so soon: a large one may still be read."""
NEXT_LEADER_AFTER = 0.5
"""Seconds after which a request that nobody answered is sent again."""
_UNAVAILABLE = "unavailable"
CHECK_EVERY = 0.1
"""Seconds after which a client that is not connected checks the reason."""


def result_of(reply: bytes) -> Any:
    """Return the result in the coordinator's reply; see ``answer_of``."""
    return answer_of(reply).get("result")


def answer_of(reply: bytes) -> Document:
    """Return the coordinator's reply: ``result``, and fields beside it. Raise Refused or HeliographError if it is an
    error."""
    answer: Document = json.loads(reply)
    if answer.get("ok"):
        return answer
    error = answer.get("error") or {}
    if "expected" in error:
        raise Refused(error.get("code", "refused"), topic=error.get("topic", ""), field=error.get("field", ""),
                      expected=error["expected"], got=error.get("got", ""), hint=error.get("hint", ""),
                      details=error.get("details"))  # fmt: skip
    raise HeliographError(str(error.get("message", "the coordinator refused")))


def _retry_after(reply: bytes) -> float | None:
    """Return the seconds after which to send a refused request again; None for any other reply."""
    if TOO_MANY.encode() not in reply[:200]:
        return None
    error = json.loads(reply).get("error") or {}
    return float(error.get("retry_after", 1.0)) if error.get("code") == TOO_MANY else None


def _is_unavailable(reply: bytes) -> bool:
    """Return whether a coordinator answers that it cannot reach its store now."""
    if _UNAVAILABLE.encode() not in reply[:200]:
        return False
    return bool((json.loads(reply).get("error") or {}).get("code") == _UNAVAILABLE)


class Requester:
    """What ``AsyncClient`` does with its connection; see there. An async context manager."""

    def __init__(
        self, server: Server, root: str, timeout: float, connect_timeout: float | None, leader_timeout: float
    ) -> None:
        self.server = server
        self.timeout = timeout
        login = ConnectionUrl.parse(self.server.url).credentials
        self._logged_in = bool(login.user or login.token or login.file)
        self._connect_timeout = timeout if connect_timeout is None else connect_timeout
        self._leader_timeout = leader_timeout
        self._world = world = World()
        self.bus = connect(self.server.url, root=root, world=world, name=f"client-{world.new_id()[:12]}")

    async def request(self, resource: str, verb: str, document: Mapping[str, Any]) -> Any:
        """Send one request and return the result in its reply; see ``answer``."""
        return (await self.answer(resource, verb, document)).get("result")

    async def answer(self, resource: str, verb: str, document: Mapping[str, Any]) -> Document:
        """Send one request and return its reply: ``result``, and fields beside it. Send it again later where the
        coordinator answers that this caller has too many waiting, as long as the client's timeout allows.

        Raises:
            Refused: if the coordinator refuses the request.
            Unreachable: if no reply comes within the client's timeout, and within its ``leader_timeout``.
        """
        body = json.dumps(document).encode()
        until = self._world.monotonic() + self.timeout + self._leader_timeout
        while True:
            repeat = verb != "delete" and len(body) <= REPEATED_MOST
            topic = REQUEST.at(resource=resource, verb=verb)
            message = await self.patiently(partial(self._answered, topic, body, repeat))
            wait = _retry_after(message.body)
            if wait is None and repeat and self._leader_timeout and _is_unavailable(message.body):
                wait = NEXT_LEADER_AFTER
            if wait is None or self._world.monotonic() + wait >= until:
                return answer_of(message.body)
            await self._world.sleep(wait)

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of an idempotent call, calling again while nobody answers, ``leader_timeout`` at most."""
        until = self._world.monotonic() + self._leader_timeout
        while True:
            try:
                return await call()
            except Unreachable as error:
                if isinstance(error, Forbidden) or self._world.monotonic() >= until:
                    raise
                await self._world.sleep(NEXT_LEADER_AFTER)

    async def _answered(self, topic: str, body: bytes, repeat: bool) -> Message:
        """Send a request and return its reply; repeat it after a lost link, since every request is idempotent. With
        ``repeat`` also after ``REPEAT_AFTER`` seconds: a broker drops what a coordinator does not read fast enough.

        A caller that blocks the event loop for some seconds loses its link.
        """
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    await self.bus.link.wait_up()
                    with contextlib.suppress(LinkDown, TimeoutError):
                        async with asyncio.timeout(REPEAT_AFTER if repeat else None):
                            return await self.bus.request(topic, body, self.timeout)
        except TimeoutError:
            raise Unreachable(f"{self.server.shown}: no answer within {self.timeout:g} s") from None
        except (Forbidden, Refused) as error:
            if self._logged_in or (isinstance(error, Refused) and error.code != "forbidden"):
                raise
            raise Forbidden(f"{self.server.shown}: only a login may send requests; anonymous clients read status. "
                            "'heliograph up' writes a login for each --user, see its output") from None  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.bus.open()
        try:
            await self._connected()
        except BaseException:
            await self.bus.close()
            raise
        return self

    async def _connected(self) -> None:
        """Wait for the connection. Raise Unreachable with the reason; Forbidden, at once, if the login is refused."""
        deadline = self._world.monotonic() + self._connect_timeout
        while True:
            left = deadline - self._world.monotonic()
            try:
                return await self.bus.link.wait_up(max(0.0, min(CHECK_EVERY, left)))
            except Unreachable:
                refused = self.bus.link.refused
                if refused or left <= CHECK_EVERY:
                    failure = Forbidden if refused else Unreachable
                    trouble = trouble_of(self.bus.link.failure, ConnectionUrl.parse(self.bus.url))
                    raise failure(f"cannot reach {self.server.shown}: {trouble}") from None

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close()

