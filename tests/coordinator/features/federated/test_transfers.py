"""Weights in parts, on a broker in memory: what is sent again, what does not fit, and what is no weights."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.weights_file import header
from heliograph.bus.transport import Bus
from heliograph.coordinator.features.federated import transfers
from heliograph.coordinator.features.federated.transfers import IDLE, Transfers
from heliograph.core.errors import Refused
from heliograph.core.world import World

FILE = header({"w": ("U8", (9,), 9)}) + b"123456789"
DIGEST = hashlib.sha256(FILE).hexdigest()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def bus(clock: Clock) -> AsyncIterator[Bus]:
    world = replace(World(), monotonic=clock)
    async with connect(f"memory://transfers-{world.new_id()}", world=world, name="coordinator") as bus:
        yield bus


@pytest.fixture
def parts(bus: Bus, clock: Clock) -> Transfers:
    return Transfers(bus, replace(World(), monotonic=clock))


async def _send(parts: Transfers, name: str, start: int, end: int, **changes: Any) -> Any:
    fields = {"digest": DIGEST, "size": len(FILE), **changes}
    text = base64.b64encode(FILE[start:end]).decode()
    return await parts.receive(name, fields["digest"], fields["size"], start, text, None)


async def test_parts_make_a_blob_that_may_be_sent_again_once_its_round_is_over(
    parts: Transfers, bus: Bus
) -> None:  # fmt: skip
    assert (await _send(parts, "phone", 0, 20)).received == 20
    assert (await _send(parts, "phone", 0, 20)).received == 20  # its answer was lost
    whole = await _send(parts, "phone", 20, len(FILE))
    assert (whole.received, whole.weights.bucket, whole.weights.digest) == (len(FILE), "up-phone", DIGEST)
    assert await _send(parts, "phone", 20, len(FILE)) == whole
    assert (await parts.part(whole.weights, 8)).data == base64.b64encode(FILE[8:]).decode()
    await (await bus.blobs("up-phone")).delete(DIGEST)  # as the aggregation worker does
    assert (await _send(parts, "phone", 0, 20)).weights is None
    assert (await _send(parts, "phone", 20, len(FILE))).weights == whole.weights


async def test_another_file_of_a_participant_takes_the_place_of_the_one_before(parts: Transfers) -> None:
    await _send(parts, "phone", 0, 20)
    assert (await _send(parts, "phone", 0, 5, digest="0" * 64)).received == 5
    assert (await _send(parts, "phone", 20, 30)).received == 0  # the first one begins anew


async def test_bytes_that_are_not_those_of_the_digest_are_thrown_away(parts: Transfers) -> None:
    with pytest.raises(Refused) as refused:
        await _send(parts, "phone", 0, len(FILE), digest="0" * 64)
    assert refused.value.code == "bad-weights"
    assert (await _send(parts, "phone", 0, len(FILE))).weights is not None


async def test_as_many_are_under_way_as_there_is_room_for(
    parts: Transfers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "UPLOADS", 2)
    await _send(parts, "a", 0, 20)
    clock.now = IDLE - 1
    await _send(parts, "b", 0, 20)
    with pytest.raises(Refused) as refused:
        await _send(parts, "c", 0, 20)
    assert refused.value.code == "overloaded"
    clock.now = IDLE
    assert (await _send(parts, "c", 0, 20)).received == 20
    assert (await _send(parts, "b", 20, 30)).received == 30
    monkeypatch.setattr(transfers, "UPLOAD_BYTES", 2 * len(FILE))
    monkeypatch.setattr(transfers, "UPLOADS", 9)
    with pytest.raises(Refused, match="bytes together"):
        await _send(parts, "d", 0, 20)


async def test_a_full_disk_is_said_and_forgets_the_file(parts: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(Refused, match="No space left on device"):
            await _send(parts, "phone", 0, 20)
    assert (await _send(parts, "phone", 0, 20)).received == 20
