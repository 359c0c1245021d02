"""Which coordinator leads: a lease in JetStream key-value, which the leader renews by compare-and-set.

Each judges by its own monotonic clock alone. The holder stops by itself ``HELD`` seconds after it sent its last
successful renewal; a stand-by takes the lease when it has seen the revision stand still for ``TAKEN``, which is longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.core.errors import Conflict, HeliographError, Unreachable
from heliograph.core.tasks import cancel_and_wait, retry_until_reachable
from heliograph.core.world import World

KEY = "leader"
EPOCH = "epoch"
RENEWED_EVERY = 0.75
HELD = 2.2
TAKEN = 3.0
AGAIN = 0.1
GIVEN_BACK_WITHIN = 1.0


@dataclass(frozen=True)
class Seen:
    """The lease as a stand-by has seen it.

    Attributes:
        holder, incarnation: whose it is, for people and for programs; empty once it has been given back.
        since: monotonic seconds at which this revision was seen first.
    """

    revision: int = 0
    holder: str = ""
    incarnation: str = ""
    since: float = 0.0

    def observe(self, entry: KeyValueEntry | None, now: float) -> Seen:
        """Return what is known after the lease was read once more."""
        if entry is None:
            return Seen(since=now)
        if entry.revision == self.revision:
            return self
        try:
            said = json.loads(entry.value)
            return Seen(entry.revision, str(said["holder"]), str(said["incarnation"]), now)
        except (ValueError, KeyError, TypeError):  # another program wrote it: that one has to renew it
            return Seen(entry.revision, "an unknown program", "unknown", now)

    def free_in(self, incarnation: str, now: float, patience: float = 1.0) -> float:
        """Seconds until ``incarnation`` may take the lease; 0: now."""
        if self.incarnation in ("", incarnation):
            return 0.0
        return max(0.0, self.since + TAKEN * patience - now)


class Lease:
    """One coordinator's claim to lead.

    Args:
        name: by which people know this coordinator.
        incarnation: tells it from every other process, also of that name.
        stands_by: called with the holder's name when another is found to lead.
        patience: by how many times all its times are longer; the same for all coordinators.
    """

    def __init__(
        self, kv: KeyValue, world: World, name: str, incarnation: str, stands_by: Callable[[str], None],
        warn: Callable[[str], None], patience: float = 1.0,
    ) -> None:  # fmt: skip
        self._kv = kv
        self._world = world
        self._incarnation = incarnation
        self._mine = json.dumps({"holder": name, "incarnation": incarnation}).encode()
        self._stands_by = stands_by
        self._warn = warn
        self._patience = patience
        self._revision = 0
        self._until = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Stand by until the lease is free, run ``work`` until it is lost, then return.

        Cancelled, it ends the work first and gives the lease back.
        """
        await self._take()
        working = asyncio.ensure_future(work())
        try:
            while not (await asyncio.wait({working}, timeout=RENEWED_EVERY * self._patience))[0]:
                if not await self._renew():
                    break
            else:
                working.result()
        finally:
            await cancel_and_wait(working)
            await self._give_back()

    async def _take(self) -> None:
        seen, announced = Seen(), ""
        async with self._kv.changes(KEY) as changed:
            while True:
                changed.clear()
                entry = await retry_until_reachable(lambda: self._kv.get(KEY), self._world, self._warn)
                seen = seen.observe(entry, self._world.monotonic())
                wait = seen.free_in(self._incarnation, self._world.monotonic(), self._patience)
                if not wait:
                    sent = self._world.monotonic()
                    try:
                        self._revision = await self._kv.put(KEY, self._mine, seen.revision)
                    except Conflict:
                        continue  # another was quicker
                    except Unreachable:
                        await self._world.sleep(AGAIN)
                        continue
                    self._until = sent + HELD * self._patience
                    return
                if announced != seen.incarnation:
                    announced = seen.incarnation
                    self._stands_by(seen.holder)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await changed.wait()

    async def _renew(self) -> bool:
        """Whether the lease is still ours; False also where the answer did not come in time."""
        try:
            async with asyncio.timeout(self._until - self._world.monotonic()):
                while True:
                    sent = self._world.monotonic()
                    try:
                        self._revision = await self._kv.put(KEY, self._mine, self._revision)
                    except Conflict:  # another has it; or it was our own write, whose answer was lost
                        if not await self._is_mine():
                            return False
                    except Unreachable:
                        await self._world.sleep(AGAIN)
                    else:
                        self._until = sent + HELD * self._patience
                        return True
        except TimeoutError:
            return False

    async def _is_mine(self) -> bool:
        with contextlib.suppress(Unreachable):
            entry = await self._kv.get(KEY)
            if entry is None or entry.value != self._mine:
                return False
            self._revision = entry.revision
        return True

    async def _give_back(self) -> None:
        """Empty the lease where it is still ours, so that nobody waits for it to run out."""
        nobody = json.dumps({"holder": "", "incarnation": ""}).encode()
        with contextlib.suppress(HeliographError, TimeoutError):
            async with asyncio.timeout(GIVEN_BACK_WITHIN):
                await self._kv.put(KEY, nobody, self._revision)


async def next_epoch(kv: KeyValue) -> int:
    """Return an epoch above every earlier coordinator's, and keep it in the lease's bucket."""
    while True:
        entry = await kv.get(EPOCH)
        epoch = int(entry.value) + 1 if entry is not None else 1
        try:
            await kv.put(EPOCH, str(epoch).encode(), entry.revision if entry is not None else 0)
        except Conflict:
            continue
        return epoch
