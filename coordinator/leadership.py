"""Which coordinator leads: a lease in JetStream key-value, which the leader renews by compare-and-set.

Each coordinator judges by its own monotonic clock alone. The leader stops by itself ``STOPS_AFTER`` seconds after it
sent its last successful renewal. A stand-by takes the lease once the revision has not changed for ``TAKEN_AFTER``
seconds, which is longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.core.errors import Conflict, HeliographError, Unreachable
from heliograph.core.tasks import cancel_and_wait, retry_until_reachable, wait_for
from heliograph.core.world import World

KEY = "leader"
EPOCH = "epoch"
RENEW_EVERY = 0.75
"""Seconds between two renewals; all times are multiplied by the lease's ``patience``."""
STOPS_AFTER = 2.2
TAKEN_AFTER = 3.0
RETRY_AFTER = 0.1
GIVE_BACK_TIMEOUT = 1.0
MAX_EPOCH = 1 << 53


@dataclass(frozen=True)
class ObservedLease:
    """The lease as a stand-by observes it.

    Attributes:
        holder, incarnation: the leader, for people and for programs; empty once the lease has been given back.
        since: monotonic seconds when this revision was first observed.
    """

    revision: int = 0
    holder: str = ""
    incarnation: str = ""
    since: float = 0.0

    def observe(self, entry: KeyValueEntry | None, now: float) -> ObservedLease:
        """Return the observation after another read of the lease."""
        if entry is None:
            return ObservedLease(since=now)
        if entry.revision == self.revision:
            return self
        try:
            content = json.loads(entry.value)
            return ObservedLease(entry.revision, str(content["holder"]), str(content["incarnation"]), now)
        except (ValueError, KeyError, TypeError, RecursionError):
            # another program wrote it: wait until it stops renewing
            return ObservedLease(entry.revision, "an unknown program", "unknown", now)

    def seconds_until_free(self, incarnation: str, now: float, patience: float = 1.0) -> float:
        """Return the seconds until ``incarnation`` may take the lease; 0: now."""
        if self.incarnation in ("", incarnation):
            return 0.0
        return max(0.0, self.since + TAKEN_AFTER * patience - now)


class Lease:
    """One coordinator's claim to lead.

    Args:
        name: name of this coordinator, for people.
        incarnation: identifies this process, also among others of the same name.
        on_standby: called with the leader's name when another coordinator leads.
        warn: called with a line while the broker cannot be reached.
        patience: factor for all times of the lease; the same for all coordinators.
    """

    def __init__(
        self, kv: KeyValue, world: World, name: str, incarnation: str, on_standby: Callable[[str], None],
        warn: Callable[[str], None], patience: float = 1.0,
    ) -> None:  # fmt: skip
        self._kv = kv
        self._world = world
        self._incarnation = incarnation
        self._claim = json.dumps({"holder": name, "incarnation": incarnation}).encode()
        self._on_standby = on_standby
        self._warn = warn
        self._patience = patience
        self._revision = 0
        self._valid_until = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Stand by until the lease is free, run ``work`` until the lease is lost, then return.

        When cancelled, end the work first and give the lease back.
        """
        await self._acquire()
        working = asyncio.ensure_future(work())
        try:
            while not (await asyncio.wait({working}, timeout=RENEW_EVERY * self._patience))[0]:
                if not await self._renew():
                    break
            else:
                working.result()
        finally:
            await cancel_and_wait(working)
            await self._give_back()

    async def _acquire(self) -> None:
        seen, announced = ObservedLease(), ""
        async with self._kv.changes(KEY) as changed:
            while True:
                changed.clear()
                entry = await retry_until_reachable(lambda: self._kv.get(KEY), self._world, self._warn)
                seen = seen.observe(entry, self._world.monotonic())
                wait = seen.seconds_until_free(self._incarnation, self._world.monotonic(), self._patience)
                if not wait:
                    sent = self._world.monotonic()
                    try:
                        self._revision = await self._kv.put(KEY, self._claim, seen.revision)
                    except Conflict:
                        continue  # another coordinator was quicker
                    except Unreachable:
                        await self._world.sleep(RETRY_AFTER)
                        continue
                    self._valid_until = sent + STOPS_AFTER * self._patience
                    return
                if announced != seen.incarnation:
                    announced = seen.incarnation
                    self._on_standby(seen.holder)
                await wait_for(changed, wait)

    async def _renew(self) -> bool:
        """Return whether the lease is still ours; False also where the answer did not come in time."""
        try:
            async with asyncio.timeout(self._valid_until - self._world.monotonic()):
                while True:
                    sent = self._world.monotonic()
                    try:
                        self._revision = await self._kv.put(KEY, self._claim, self._revision)
                    except Conflict:  # another has taken it, or the answer to our own write was lost
                        if not await self._is_mine():
                            return False
                    except Unreachable:
                        await self._world.sleep(RETRY_AFTER)
                    else:
                        self._valid_until = sent + STOPS_AFTER * self._patience
                        return True
        except TimeoutError:
            return False

    async def _is_mine(self) -> bool:
        with contextlib.suppress(Unreachable):
            entry = await self._kv.get(KEY)
            if entry is None or entry.value != self._claim:
                return False
            self._revision = entry.revision
        return True

    async def _give_back(self) -> None:
        """Empty the lease if it is still ours, so that nobody waits for it to run out."""
        nobody = json.dumps({"holder": "", "incarnation": ""}).encode()
        with contextlib.suppress(HeliographError, TimeoutError):
            async with asyncio.timeout(GIVE_BACK_TIMEOUT):
                await self._kv.put(KEY, nobody, self._revision)


async def next_epoch(kv: KeyValue) -> int:
    """Store an epoch above every earlier coordinator's in the lease's bucket, and return it."""
    while True:
        entry = await kv.get(EPOCH)
        epoch = epoch_in(entry) + 1 if entry is not None else 1
        try:
            await kv.put(EPOCH, str(epoch).encode(), entry.revision if entry is not None else 0)
        except Conflict:
            continue
        return epoch


async def is_newest_epoch(kv: KeyValue, epoch: int) -> bool:
    """Return whether no coordinator has taken a later epoch than this one. Raises HeliographError where the store does
    not answer."""
    entry = await kv.get(EPOCH)
    return entry is None or epoch_in(entry) <= epoch


def epoch_in(entry: KeyValueEntry) -> int:
    """Return the epoch that an entry stores. Where it is unreadable, return the entry's revision: each epoch took a
    write to the bucket, so that no earlier one is above it."""
    try:
        epoch = int(entry.value)
    except ValueError:
        return entry.revision
    return epoch if 0 <= epoch <= MAX_EPOCH else entry.revision
