"""A login of its own for each launch of a worker: signed here, without a round trip, and good for a short while.

It is renewed while the worker runs, and taken away when the launch has ended. Each launch has another key, and its
login names the worker and its job alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.bus.contract.launch_permissions import Launch
    from heliograph.bus.contract.payloads import WorkerTask

LIFETIME = 900
"""Seconds for which a login is good, at most: whoever has stolen it uses it no longer. The broker ends a connection
whose login expires, and the worker connects anew; so often that may be."""
RETRY_SECONDS = 5.0
"""Seconds after which a renewal is tried again that found no room on the disk."""


class WorkerLogins:
    """Issues the logins of one node's workers.

    Args:
        warn: called with a line about a login that cannot be renewed.
    """

    def __init__(
        self, issuer: WorkerIssuer, edge: str, world: World, warn: Callable[[str], None], lifetime: int = LIFETIME
    ) -> None:
        self._issuer = issuer
        self._edge = edge
        self._world = world
        self._warn = warn
        self._lifetime = lifetime

    @asynccontextmanager
    async def of_launch(self, task: WorkerTask, hand: Callable[[str], Awaitable[None]]) -> AsyncIterator[str]:
        """Yield a launch's login, as the text of a file. Hand over a renewed one from time to time, and an empty text
        when the launch has ended."""
        from heliograph.bus.contract.launch_permissions import Launch  # loaded with the first launch

        launch = Launch.of(task.worker, task.job, task.job_uid, self._edge)
        key = KeyPair("user", self._world.new_secret())
        renewing = asyncio.create_task(self._renew(launch, key, hand))
        try:
            yield self._issue(launch, key)
        finally:
            await cancel_and_wait(renewing)
            await hand("")

    async def _renew(self, launch: Launch, key: KeyPair, hand: Callable[[str], Awaitable[None]]) -> None:
        pause = self._lifetime / 2
        while True:
            await self._world.sleep(pause)
            try:
                await hand(self._issue(launch, key))
                pause = self._lifetime / 2
            except OSError as error:
                self._warn(f"the login of worker {launch.worker} is not renewed: {error}")
                pause = RETRY_SECONDS

    def _issue(self, launch: Launch, key: KeyPair) -> str:
        now = self._world.now()
        return self._issuer.issue(launch, key, now, int(now) + self._lifetime).text()
