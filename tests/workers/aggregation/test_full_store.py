"""A store without room: the aggregation worker keeps its result on the disk, and stores it once there is room."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import write
from heliograph.core.errors import StoreFull
from heliograph.core.world import World
from heliograph.workers.aggregation.model_files import ModelFiles


class _FullAtFirst:
    """A store that has room at the third attempt."""

    def __init__(self) -> None:
        self.attempts = 0

    async def blobs(self, bucket: str) -> _FullAtFirst:
        return self

    async def put(self, path: Path, ref: WeightsRef) -> WeightsRef:
        self.attempts += 1
        if self.attempts < 3:
            raise StoreFull("the object store refused a chunk: maximum messages exceeded")
        return ref.model_copy(update={"bucket": "models"})


async def test_a_result_waits_for_room_and_says_so_once(tmp_path: Path) -> None:
    said: list[str] = []
    ref = write({"w": np.ones(100_000, np.float32)}, tmp_path)

    async def at_once(seconds: float) -> None:
        return None

    store, world = _FullAtFirst(), World(say=said.append, sleep=at_once)
    stored = await ModelFiles(cast(Any, store), world, tmp_path).put(ref)
    assert (stored.bucket, store.attempts) == ("models", 3)
    assert said == ["the object store refused a chunk: maximum messages exceeded; trying again"]
