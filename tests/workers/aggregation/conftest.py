"""A store in memory, and records of closed rounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.core.world import World

UID = "uid"


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    world = World()
    one = connect(f"memory://store-{world.new_id()}", world=world)
    await one.open()
    yield one
    await one.close()


@pytest.fixture
def closed() -> Callable[..., Aggregation]:
    """Return ``closed(round, model="a", …)``, which makes a close record; a letter stands for a blob's digest."""

    def make(round: int, **fields: Any) -> Aggregation:
        refs = {part: _blob(fields.pop(part)) for part in ("model", "state", "down") if part in fields}
        if "personal" in fields:
            refs["personal"] = {edge: _blob(letter) for edge, letter in fields.pop("personal").items()}
        known = {"job": "job", "job_uid": UID, "round": round, "counted": {"edge-1": "0" * 64}, "reason": "complete"}
        return Aggregation.model_validate(known | refs | fields)

    return make


def _blob(letter: str) -> WeightsRef:
    return WeightsRef(digest=letter * 64, size=10**6, bucket="models")
