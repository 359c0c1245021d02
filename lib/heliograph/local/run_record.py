"""What a run leaves behind, collected while it goes on: models, metrics, and what became of each edge's updates."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.bus.port import Port
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.local.display import Display
from heliograph.local.edge_counts import EdgeCounts
from heliograph.local.kept_models import KeptModels
from heliograph.local.run_folder import RunFolder
from heliograph.local.run_metrics import RunMetrics

FINISH = 20.0
"""Seconds in which what has been announced is still fetched when a run ends or is interrupted."""


class RunRecord:
    """Writes a run's folder from the closes of its job's rounds and from the job's documents.

    Args:
        evaluated: whether the job evaluates its models.
    """

    def __init__(
        self, folder: RunFolder, job: str, edges: list[str], evaluated: bool, client: AsyncClient, display: Display,
        world: World,
    ) -> None:  # fmt: skip
        self._job = job
        self._client = client
        self._display = display
        self._world = world
        self._seen = 0
        self._closed = asyncio.Condition()
        self._evaluated: dict[int, Mapping[str, float]] = {}
        self.counts = EdgeCounts(edges)
        self.models = KeptModels(folder, client.fetch, lambda line: display.note(line, good=False))
        self.metrics = RunMetrics(folder.metrics_jsonl, folder.metrics_csv, evaluated)

    async def follow(self) -> None:
        """Record each closed round, until cancelled."""
        port = Port(self._client.bus, self._world, "cloud/run/1")
        async with self._client.bus.consume(AGGREGATION.at(job=self._job)) as messages:
            async for message in messages:
                try:
                    closed = port.read(AGGREGATION, message)
                except Refused as error:
                    self._display.note(str(error), good=False)
                    continue
                await self._record(closed.payload, closed.event.time or self._world.timestamp())

    def document(self, document: Mapping[str, Any]) -> None:
        """Record the evaluations in a document of the job."""
        for each in document.get("status", {}).get("rounds", ()):
            metrics = each.get("evaluation")
            if metrics and each["round"] not in self._evaluated:
                self._evaluated[each["round"]] = metrics
                with self._noting():
                    self._apply_evaluation(each["round"])
        for round in sorted(self._evaluated)[:-200]:  # a document has the last hundred
            del self._evaluated[round]

    async def finish(self, document: Mapping[str, Any]) -> None:
        """Wait for what the job's last document announces, at most ``FINISH`` seconds, and write what is pending."""
        self.document(document)
        rounds = document.get("status", {}).get("rounds") or [{"round": 0}]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH), self._closed:
                await self._closed.wait_for(lambda: self._seen >= rounds[-1]["round"])
        with self._noting():
            self.metrics.finish()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Say that a file cannot be written: a full disk must not keep the next model from being kept."""
        try:
            yield
        except OSError as error:
            self._display.note(f"the run's metrics are not complete: {error.strerror or error}", good=False)

    async def _record(self, closed: Aggregation, time: str) -> None:
        if closed.round > self._seen:
            self.counts.add(closed)
            if closed.counted and closed.round > 0:
                await self.models.keep(closed.round, closed.model)
            with self._noting():
                self.metrics.closed(closed, time)
                self._apply_evaluation(closed.round)
        async with self._closed:
            self._seen = max(self._seen, closed.round)
            self._closed.notify_all()

    def _apply_evaluation(self, round: int) -> None:
        """Use a round's evaluation once both it and the round's close have come, in whichever order."""
        if metrics := self._evaluated.get(round):
            self.metrics.evaluated(round, metrics)
            self.models.evaluated(round, metrics)
