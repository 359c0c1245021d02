"""The format of the cloud's state: an earlier version's is migrated, a later one's refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from heliograph import __version__
from heliograph.bus.connect import connect
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.cloud_format import FORMAT, KEY, check_format, migrate_format
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.core.errors import HeliographError
from heliograph.core.world import World


@pytest.fixture
async def bucket() -> AsyncIterator[tuple[str, KeyValue]]:
    world = World()
    url = f"memory://format-{world.new_id()}"
    async with connect(url, world=world) as bus:
        yield url, await bus.kv("coordinator")


async def _noted(kv: KeyValue) -> dict[str, object]:
    entry = await kv.get(KEY)
    assert entry is not None
    found: dict[str, object] = json.loads(entry.value)
    return found


async def test_state_of_0_1_is_migrated(bucket: tuple[str, KeyValue]) -> None:
    _, kv = bucket
    await kv.put("epoch", b"7")
    await check_format(kv)
    assert await kv.get(KEY) is None  # a check changes nothing
    await migrate_format(kv)
    assert await _noted(kv) == {"format": FORMAT, "written_by": __version__}
    epoch = await kv.get("epoch")
    assert epoch is not None and epoch.value == b"7"
    await migrate_format(kv)
    assert (await _noted(kv))["format"] == FORMAT


async def test_an_earlier_version_of_the_same_format_hands_over(bucket: tuple[str, KeyValue]) -> None:
    _, kv = bucket
    await kv.put(KEY, json.dumps({"format": FORMAT, "written_by": "0.2.0", "by": "a later one's word"}).encode())
    await migrate_format(kv)
    assert (await _noted(kv))["written_by"] == __version__


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        (json.dumps({"format": FORMAT + 1, "written_by": "9.9.0"}), "Install heliograph 9.9.0 again"),
        ("seven", "noted as b'seven'"),
        ('{"format": 3}', "which is none"),
    ],
)
async def test_a_coordinator_refuses_state_that_it_cannot_read(
    bucket: tuple[str, KeyValue], noted: str, words: str
) -> None:
    url, kv = bucket
    await kv.put(KEY, noted.encode())
    coordinator = Coordinator(CoordinatorConfig(nats=url), World(), lambda line: None)
    with pytest.raises(HeliographError) as refused:
        await coordinator.run()
    assert words in str(refused.value)
    assert "bucket coordinator" in str(refused.value)
    assert await kv.get("leader") is None  # it never led
