"""A live cluster takes hostile messages through both brokers: honest clients, devices and edges are served, and no
process ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from heliograph.simulations.input_fuzz.live import batch_of
from heliograph.simulations.input_fuzz.live_cluster import LiveCluster
from heliograph.simulations.input_fuzz.messages import read

PAST = Path(__file__).parents[1] / "data" / "hostile" / "live.json"
BATCHES = 6


@pytest.mark.long
async def test_hostile_messages_harm_nobody(tmp_path: Path) -> None:
    async with LiveCluster(tmp_path) as cluster:
        for batch in (read(PAST), *(batch_of(1, number) for number in range(1, BATCHES + 1))):
            await cluster.send(batch)
            assert await cluster.check() == []
