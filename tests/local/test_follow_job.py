"""Waiting for what the nodes offer: progress is shown, a refusal ends it at once, silence ends it with a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.local import follow_job
from heliograph.local.follow_job import wait_for_offers

WANTED = {"edge-1": {"rows": "x.csv"}, "edge-2": {"rows": "x.csv"}}


class Cloud:
    """A client of a coordinator that knows one more thing with each question; each list is a step.

    Args:
        steps: the indexes by edge at each step; the last stays.
    """

    def __init__(self, *steps: dict[str, dict[str, Any]]) -> None:
        self._steps = list(steps)
        self.bus = self.algorithms = self.datasets = self

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[str]]:
        async def changes() -> AsyncIterator[str]:
            while len(self._steps) > 1:
                self._steps.pop(0)
                yield "changed"
            await asyncio.Event().wait()

        yield changes()

    async def list(self) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "rows"}, "status": {"edges": {"cloud": {}} | self._steps[0]}}]


def waited_for(cloud: Cloud) -> list[str]:
    shown: list[str] = []
    asyncio.run(wait_for_offers(cast(AsyncClient, cloud), WANTED, shown.append))
    return shown


def test_progress_is_shown_until_all_data_are_read() -> None:
    reading = {"error": "/d/x.csv is being read", "read": 128 << 20}
    cloud = Cloud({}, {"edge-1": {}, "edge-2": reading}, {"edge-1": {}, "edge-2": {}})
    assert waited_for(cloud) == ["waiting for the data of edge-2: 128 MB read"]


def test_what_an_agent_refuses_ends_the_wait_with_its_sentence() -> None:
    cloud = Cloud({"edge-1": {}}, {"edge-1": {}, "edge-2": {"error": "/d/x.csv is empty; write the data set again"}})
    with pytest.raises(HeliographError, match=r"edge-2: data set rows: /d/x.csv is empty; write the data set again"):
        waited_for(cloud)


def test_silence_ends_the_wait_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_job, "OFFER_TIMEOUT", 0.0)
    monkeypatch.setattr(follow_job, "POLL", 0.001)
    with pytest.raises(HeliographError, match="data of edge-1, edge-2: nothing has changed for 0 s; is the machine"):
        waited_for(Cloud({}))
