"""Watch the cloud's stores, and say which one has no room left, and what to do, before it refuses anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from heliograph.bus.contract import buckets
from heliograph.bus.contract.permissions import edge_of_bucket
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.transport import Bus, StoreUse
from heliograph.core.failures import Failures
from heliograph.core.names import CLOUD
from heliograph.core.world import World

EVERY = 60.0
"""Seconds between two looks."""
FULL, ENOUGH = 0.9, 0.85
"""Part of a store that is taken, from which on it is said to be full, and below which it has room again."""
Full = dict[str, list[str]]
"""By edge, a sentence about each of its stores that is full; those of the edge ``cloud`` are the cloud's."""
_COLLECT = "run 'heliograph gc'"
_MENDS = {
    buckets.MODELS: f"{_COLLECT}, and delete models that nobody needs",
    buckets.ROUNDS: f"{_COLLECT}, and delete jobs that have ended",
    buckets.RESOURCES: "delete jobs, models and other resources that nobody needs",
}


class StoreWatch:
    """Looks at the stores until cancelled.

    Args:
        system: a connection of the broker's system account, which knows the broker's whole store.
        full: called with the full stores when they have changed.
    """

    def __init__(
        self, cloud: Bus, system: Bus | None, world: World, full: Callable[[Mapping[str, list[str]]], None],
        warn: Callable[[str], None], failures: Failures,
    ) -> None:  # fmt: skip
        self._cloud = cloud
        self._system = system
        self._world = world
        self._full = full
        self._warn = warn
        self._failures = failures

    async def run(self) -> None:
        said: set[str] = set()
        while True:
            with self._failures.contain("looking at the stores"):
                uses = await self._cloud.store_use()
                if isinstance(self._system, NatsBus):
                    uses += await self._system.server_use()
                before, said = said, {each.store for each in uses if _is_full(each, each.store in said)}
                if before or said:
                    found = sentences(each for each in uses if each.store in said)
                    self._full(found)
                    if said - before:
                        self._warn("; ".join(line for lines in found.values() for line in lines))
            await self._world.sleep(EVERY)


def sentences(full: Iterable[StoreUse]) -> Full:
    """Return a sentence about each full store, by the edge whose it is; none says a number that changes all the
    time."""
    found: Full = {}
    for each in full:
        edge = edge_of_bucket(each.bucket) if each.bucket else None
        if edge is not None:
            mend = "its updates wait until jobs have aggregated those that are there, or these expire after 7 days"
        else:
            mend = _MENDS.get(each.bucket, f"{_COLLECT}, delete models and jobs that nobody needs, or give the broker "
                              "more room (max_file_store in its configuration, or a larger disk)")  # fmt: skip
        size = f"{each.most / 1e9:.1f} GB" if each.unit == "bytes" else f"{each.most:,} {each.unit}"
        sentence = f"{each.store} has no room left: more than {FULL:.0%} of {size} are taken; {mend}"
        found.setdefault(edge or CLOUD, []).append(sentence)
    return found


def _is_full(use: StoreUse, was: bool) -> bool:
    return use.used >= use.most * (ENOUGH if was else FULL)
