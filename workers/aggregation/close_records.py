"""Read the close records of a job, and write them by compare-and-set: the first one written stands."""

from __future__ import annotations

from functools import partial

from heliograph.bus.contract import close_record
from heliograph.bus.contract.buckets import ROUNDS
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.transport import Bus
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Conflict, Refused
from heliograph.core.tasks import retry_until_reachable
from heliograph.core.world import World


class CloseRecords:
    """The close records of a job. Each call retries until the store can be reached.

    Args:
        signer: the job's key, which signs records; with it none counts that it has not signed.
    """

    def __init__(self, bus: Bus, world: World, signer: Ed25519Signer | None = None) -> None:
        self._bus = bus
        self._world = world
        self._signer = signer

    async def read(self, job_uid: str, round: int) -> Aggregation | None:
        """Return the record of a round; None while it is open."""
        return await self._read_reachable(close_record.key_of(job_uid, round))

    async def recent(self, job_uid: str, round: int) -> list[Aggregation]:
        """Return the records up to ``round`` whose blobs may not be freed yet, oldest first."""
        found = []
        for key in close_record.recent_keys(job_uid, round):
            try:
                found.append(await self._read_reachable(key))
            except Refused as error:  # nobody can follow it: its round is open
                self._world.say(str(error))
        return [each for each in found if each is not None]

    async def last_round(self, job_uid: str) -> int | None:
        """Return the round whose model is the result of an ended job; None where no coordinator has said so."""

        async def read() -> int | None:
            entry = await (await self._bus.kv(ROUNDS)).get(close_record.end_key(job_uid))
            return close_record.load_end(entry.value) if entry is not None else None

        return await retry_until_reachable(read, self._world, self._world.say)

    async def write(self, closed: Aggregation) -> Aggregation:
        """Write a record, and return the one that stands: this one, or one that was written before a crash."""
        return await retry_until_reachable(partial(self._write, closed), self._world, self._world.say)

    async def _read_reachable(self, key: str) -> Aggregation | None:
        return await retry_until_reachable(partial(self._read, key), self._world, self._world.say)

    async def _read(self, key: str) -> Aggregation | None:
        entry = await (await self._bus.kv(ROUNDS)).get(key)
        return self._loaded(entry.value) if entry is not None else None

    def _loaded(self, value: bytes) -> Aggregation:
        """Read a record. Raise Refused if it is none, or not of this job's worker."""
        if self._signer is not None and close_record.signer_of(value) != self._signer.public:
            raise Refused("bad-signature", topic=f"a close record in bucket {ROUNDS}", expected="this job's signature",
                          got="another or none")  # fmt: skip
        return close_record.load(value)

    async def _write(self, closed: Aggregation) -> Aggregation:
        key = close_record.key_of(closed.job_uid, closed.round)
        bucket = await self._bus.kv(ROUNDS)
        try:
            await bucket.put(key, close_record.dump(closed, self._signer), 0)
        except Conflict:
            entry = await bucket.get(key)
            try:
                return self._loaded(entry.value) if entry is not None else closed
            except Refused as error:  # nobody can follow the one that is there
                self._world.say(f"{error}; it is replaced")
                revision = entry.revision if entry is not None else 0
                await bucket.put(key, close_record.dump(closed, self._signer), revision)
        return closed
