"""Close records: the first record written for a round decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heliograph.bus.contract import close_record
from heliograph.bus.contract.buckets import ROUNDS
from heliograph.bus.contract.close_record import KeptModels
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.transport import Bus
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Unreachable
from heliograph.core.world import World
from heliograph.workers.aggregation.close_records import CloseRecords

Closed = Callable[..., Aggregation]
A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


class _LostAnswers:
    """A bus whose first answer to each write is lost."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.lost = 0

    async def kv(self, bucket: str) -> Any:
        return self

    async def get(self, key: str) -> Any:
        return await (await self._bus.kv(ROUNDS)).get(key)

    async def put(self, key: str, value: bytes, revision: int) -> int:
        stored = await (await self._bus.kv(ROUNDS)).put(key, value, revision)
        if not self.lost:
            self.lost += 1
            raise Unreachable("no answer in time")
        return stored


async def test_a_record_round_trips(bus: Bus, closed: Closed) -> None:
    records = CloseRecords(bus, World())
    written = closed(3, model="a", state="b", personal={"edge-1": "c"})
    assert await records.read("uid", 3) is None
    assert await records.write(written) == written
    assert await records.read("uid", 3) == written
    assert await records.read("other", 3) is None


async def test_the_first_of_two_close_records_decides(bus: Bus, closed: Closed) -> None:
    first, second = closed(1, model="a", state="b"), closed(1, model="c", state="d")
    assert await CloseRecords(bus, World()).write(first) == first
    assert await CloseRecords(bus, World()).write(second) == first


async def test_a_write_whose_answer_was_lost_stands(bus: Bus, closed: Closed) -> None:
    unsure: Any = _LostAnswers(bus)
    record = closed(1, model="a")
    assert await CloseRecords(unsure, World()).write(record) == record
    assert unsure.lost == 1


async def test_the_recent_ones_come_oldest_first(bus: Bus, closed: Closed) -> None:
    records = CloseRecords(bus, World())
    for round in (0, 1, 2, 4, 5):
        await records.write(closed(round))
    assert [each.round for each in await records.recent("uid", 5)] == [2, 4, 5]
    assert [each.round for each in await records.recent("uid", 1)] == [0, 1]
    assert await records.recent("other", 5) == []


def test_a_record_has_no_empty_fields(closed: Closed) -> None:
    plain = close_record.dump(closed(1, model="a"))
    for field in (b"state", b"down", b"personal", b"uploaded", b"null"):
        assert field not in plain
    assert b'"state"' in close_record.dump(closed(1, model="a", state="b"))


def test_keys_begin_with_their_job() -> None:
    assert close_record.key_of("uid", 7).startswith(close_record.prefix_of("uid"))
    assert close_record.recent_keys("uid", 7)[-1] == close_record.key_of("uid", 7)


def test_the_two_newest_rounds_keep_their_models_and_states(closed: Closed) -> None:
    kept = KeptModels()
    assert kept.add(closed(1, model="a", state="b")) == []
    assert kept.add(closed(2, model="c", state="d")) == []
    assert kept.add(closed(2, model="c", state="d")) == []  # the record is announced again
    assert kept.add(closed(3, model="e", state="f")) == [A, B]
    assert kept.end() == [C, D, "f" * 64]  # no later round uses the last state


def test_the_round_that_the_coordinator_took_as_the_last_one_is_the_result(closed: Closed) -> None:
    kept = KeptModels()
    for round, model in ((1, "a"), (2, "b")):
        kept.add(closed(round, model=model))
    assert kept.end(last=1) == [B]  # it was closed when the job had been stopped
    assert kept.end(last=2) == kept.end(last=7) == kept.end(None) == [A]


async def test_the_last_round_lies_beside_the_records_and_is_none(bus: Bus, closed: Closed) -> None:
    records = CloseRecords(bus, World())
    assert await records.last_round("uid") is None
    bucket = await bus.kv("rounds")
    for value, expected in ((close_record.dump_end(12), 12), (b"\xff", None), (b"-1", None), (b"", None)):
        await bucket.put(close_record.end_key("uid"), value)
        assert await records.last_round("uid") == expected
    await records.write(closed(1))
    keys = [each.key for each in await bucket.entries(close_record.prefix_of("uid"))]
    assert [(key, close_record.is_record(key)) for key in keys] == [("uid.1", True), ("uid.end", False)]


def test_a_model_that_no_update_has_changed_is_not_the_jobs_to_delete(closed: Closed) -> None:
    kept = KeptModels()
    kept.add(closed(1, model="a", counted={}))
    kept.add(closed(2, model="b"))
    kept.add(closed(3, model="b", counted={}))
    assert kept.add(closed(4, model="c")) == []
    assert kept.add(closed(5, model="d")) == [B]
    assert kept.end() == [C]


def test_an_edges_own_model_stays_until_it_has_a_newer_one(closed: Closed) -> None:
    kept = KeptModels()
    kept.add(closed(1, model="1", personal={"edge-1": "a", "edge-2": "b"}))
    for round in (2, 3, 4):  # edge-2 is away, so the records repeat its earlier model
        gone = kept.add(closed(round, model=str(round), personal={"edge-1": "c", "edge-2": "b"}))
        assert B not in gone
    assert kept.end() == ["3" * 64]


async def test_an_unreadable_record_is_passed_over_and_replaced(bus: Bus, closed: Closed) -> None:
    records, record = CloseRecords(bus, World()), closed(1, model="a")
    bucket = await bus.kv(ROUNDS)
    for key, value in ((close_record.key_of("uid", 0), b"[" * 3000), (close_record.key_of("uid", 1), b"\xff")):
        await bucket.put(key, value)
    assert await records.recent("uid", 1) == []
    assert await records.write(record) == record
    assert await records.recent("uid", 1) == [record]


SIGNER, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")


def test_a_signed_record_is_the_record_and_names_its_key(closed: Closed) -> None:
    record = closed(3, model="a", state="b")
    plain, signed = close_record.dump(record), close_record.dump(record, SIGNER)
    assert close_record.load(signed) == close_record.load(plain) == record
    assert (close_record.signer_of(signed), close_record.signer_of(plain)) == (SIGNER.public, None)
    for changed in (signed.replace(b'"round":3', b'"round":4'), signed[:-1], signed + b"\n", b" " + signed):
        assert close_record.signer_of(changed) is None


@pytest.mark.parametrize("forger", [None, OTHER])
async def test_a_worker_with_the_jobs_key_replaces_what_others_have_written(
    bus: Bus, closed: Closed, forger: Ed25519Signer | None
) -> None:
    forged, own = closed(1, model="a"), closed(1, model="c")
    await CloseRecords(bus, World(), forger).write(forged)
    records = CloseRecords(bus, World(), SIGNER)
    assert await records.recent("uid", 1) == []
    assert await records.write(own) == own
    assert await records.read("uid", 1) == own
    entry = await (await bus.kv(ROUNDS)).get(close_record.key_of("uid", 1))
    assert entry is not None
    assert close_record.signer_of(entry.value) == SIGNER.public


async def test_another_start_with_the_same_key_takes_its_own_record(bus: Bus, closed: Closed) -> None:
    first, second = closed(1, model="a"), closed(1, model="c")
    await CloseRecords(bus, World(), SIGNER).write(first)
    assert await CloseRecords(bus, World(), SIGNER).write(second) == first
