"""What the controllers of all features work with, and how each takes a step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from heliograph.bus.contract.resources import Resource
from heliograph.bus.port import Port
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class ControllerContext:
    """The surroundings of a controller.

    Attributes:
        view: what the decisions are made from.
        lock: held while the resource of that plural and name is read, decided on and written.
        show: sets a resource's retained status.
        write_desired: writes the edges' desired documents where they have changed.
    """

    port: Port
    store: ResourceStore
    view: Callable[[], View]
    lock: Callable[[str, str], asyncio.Lock]
    show: Callable[[Resource], None]
    write_desired: Callable[[], Awaitable[None]]
    out: Callable[[str], None]
    warn: Callable[[str], None]

    async def step(
        self,
        kind: type[R],
        name: str,
        decide: Callable[[R], R],
        first: Callable[[R, R], Awaitable[None]] | None = None,
    ) -> tuple[R, R] | None:
        """One step of a state machine: decided, stored by compare-and-set, then shown. Returns the resource before and
        after it; None where there is none of that name.

        Args:
            first: awaited with both before anything is stored.
        """
        async with self.lock(kind.plural, name):
            while True:
                before = self.store.get(kind, name)
                if before is None:
                    return None
                after = decide(before)
                try:
                    if first is not None:
                        await first(before, after)
                    if after is not before:
                        after = await self.store.put(after)
                        self.show(after)
                except Conflict:
                    continue  # decided again on what has been written meanwhile
                return before, after
