"""The state of a transport's connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from heliograph.bus.link_pace import MOST_WINDOW, LinkPace
from heliograph.core.errors import Forbidden, Unreachable


class Link:
    """The state of a transport's connection, with listeners for its changes."""

    def __init__(self) -> None:
        self.up = False
        self.pace = LinkPace(MOST_WINDOW)
        """How fast the link is; a transport that has a real one measures it."""
        self.refused = ""
        """The broker's reason for refusing the login; empty unless the last attempt was refused."""
        self.last_error = ""
        """The newest error of the connection or of the broker."""
        self.failure: BaseException | None = None
        """The error that ``last_error`` shows."""
        self._waiting: list[asyncio.Future[None]] = []
        self._on_failure: list[Callable[[BaseException], None]] = []
        self._listeners: list[Callable[[bool], None]] = []

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener(up)`` at each change, and at once if the link is up."""
        self._listeners.append(listener)
        if self.up:
            listener(True)

    def forget(self, listener: Callable[[bool], None]) -> None:
        self._listeners.remove(listener)

    def on_failure(self, listener: Callable[[BaseException], None]) -> None:
        """Call ``listener(error)`` at each error of the connection, and at each attempt that fails."""
        self._on_failure.append(listener)

    def fail(self, error: BaseException) -> None:
        """Take note of an error."""
        self.failure = error
        self.last_error = str(error) or type(error).__name__
        for listener in list(self._on_failure):
            listener(error)

    def set(self, up: bool) -> None:
        if up == self.up:
            return
        self.up = up
        if up:
            self.refused = ""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        for listener in list(self._listeners):
            listener(up)

    async def wait_up(self, timeout: float | None = None) -> None:
        """Wait until connected. Raises Unreachable after ``timeout`` seconds, Forbidden if the broker refuses the
        login."""
        if self.up:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._wait(True)
        except TimeoutError:
            if self.refused:
                raise Forbidden(f"the broker refuses this login: {self.refused}") from None
            raise Unreachable(f"not connected after {timeout:g} s") from None

    async def wait_down(self) -> None:
        await self._wait(False)

    async def _wait(self, up: bool) -> None:
        while self.up != up:
            changed = asyncio.get_running_loop().create_future()
            self._waiting.append(changed)
            try:
                await changed
            finally:
                if changed in self._waiting:
                    self._waiting.remove(changed)
