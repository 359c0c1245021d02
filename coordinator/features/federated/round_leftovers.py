"""Free the blobs of closed rounds in the cloud's buckets, while the next round runs.

Workers may not delete blobs: one job's worker would delete another's. Each close record names the blobs of its round.
Those that a coordinator frees no more, since it has ended meanwhile, are freed at the job's end or expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from heliograph.bus.contract import close_record
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.close_record import KeptModels
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.transport import Bus, KeyValue
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures


class RoundLeftovers:
    """Frees uploads of closed rounds, and models of rounds that nobody begins from any more.

    Args:
        rounds: bucket of the close records.
        in_use: returns the digests of models that resources name; those stay.
    """

    def __init__(self, bus: Bus, rounds: KeyValue, in_use: Callable[[], set[str]], failures: Failures) -> None:
        self._bus = bus
        self._rounds = rounds
        self._in_use = in_use
        self._failures = failures
        self._kept: dict[str, KeptModels] = {}
        """By uid of the job."""
        self._held: dict[str, set[str]] = {}
        """By uid of the job: models of closed rounds that a resource still names, such as its best one."""
        self._closed: asyncio.Queue[Aggregation] = asyncio.Queue()

    def free_soon(self, closed: Aggregation) -> None:
        """Let ``run`` free what a closed round has left."""
        self._closed.put_nowait(closed)

    def free_later(self, job_uid: str, digest: str) -> None:
        """Free a model that its job names no longer with the next round that closes, if nothing needs it then."""
        self._held.setdefault(job_uid, set()).add(digest)

    def forget(self, job_uid: str) -> set[str]:
        """Forget a job that has ended: its last rounds are freed by what registers its result. Return what was held of
        earlier ones."""
        self._kept.pop(job_uid, None)
        return self._held.pop(job_uid, set())

    async def run(self) -> None:
        """Free until cancelled."""
        while True:
            closed = await self._closed.get()
            with self._failures.contain(f"the blobs of job {closed.job}, round {closed.round}"):
                await self._free(closed)
            self._closed.task_done()

    async def wait_until_freed(self) -> None:
        """Return once the blobs of all given rounds are freed."""
        await self._closed.join()

    async def _free(self, closed: Aggregation) -> None:
        uploads: dict[str, list[str]] = {}
        for edge, digest in sorted(closed.uploads()):
            uploads.setdefault(edge, []).append(digest)
        for edge, digests in uploads.items():
            if (bucket := await self._bus.existing_blobs(upload_bucket(edge))) is not None:
                for digest in digests:
                    await bucket.delete(digest)
        kept = await self._kept_of(closed)
        superfluous = {*kept.add(closed), *self._held.pop(closed.job_uid, ())} - kept.digests()
        if superfluous:
            if held := superfluous & self._in_use():
                self._held[closed.job_uid] = held
            models = await self._bus.blobs(MODELS)
            for digest in sorted(superfluous - held):
                await models.delete(digest)

    async def _kept_of(self, closed: Aggregation) -> KeptModels:
        """Return what is kept of a job; after the start of a coordinator by the records of its recent rounds."""
        kept = self._kept.get(closed.job_uid)
        if kept is None:
            kept = KeptModels()
            for key in close_record.recent_keys(closed.job_uid, closed.round)[:-1]:
                entry = await self._rounds.get(key)
                with suppress(Refused):  # the step that needed the record has reported it
                    if entry is not None:
                        kept.add(close_record.load(entry.value))
            self._kept[closed.job_uid] = kept
        return kept
