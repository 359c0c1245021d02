"""What a task leaves: its result becomes a version of its model, and what its last rounds held is freed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import FederatedTask, Metadata, Model, ModelVersion
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.transport import Bus, KeyValue
from heliograph.coordinator.resource_store import ResourceStore

LATEST = 3
"""Rounds back from a task's last one of which something may be left; of earlier ones it went while it ran."""


class Results:
    """Registers results, and tidies up after tasks.

    Args:
        rounds: the close records.
        lock: held while the resource of that plural and name is read, decided on and written.
        save: stores a model and shows its status.
    """

    def __init__(
        self,
        bus: Bus,
        store: ResourceStore,
        rounds: KeyValue,
        lock: Callable[[str, str], asyncio.Lock],
        save: Callable[[Model], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._store = store
        self._rounds = rounds
        self._lock = lock
        self._save = save

    async def register(self, task: FederatedTask) -> None:
        """A finished task's result becomes the newest version of its model."""
        status = task.status
        if status.phase != "Succeeded" or status.model is None:
            return
        name = task.spec.aggregation_worker.model.name
        weights = await self.in_bucket(status.model)
        async with self._lock(Model.plural, name):  # another task may end with the same model
            model = self._store.get(Model, name) or Model(metadata=Metadata(name=name))
            if any(each.job == task.metadata.uid for each in model.status.versions):
                return  # registered by a coordinator that ended before it could say so
            metrics = status.evaluation or (status.rounds[-1].metrics if status.rounds else {})
            version = ModelVersion(
                version=len(model.status.versions) + 1, weights=weights, job=task.metadata.uid, round=status.round,
                metrics=metrics, time=status.completion_time,
            )  # fmt: skip
            changed = model.status.model_copy(update={"versions": [*model.status.versions, version]})
            await self._save(model.model_copy(update={"status": changed}))

    async def in_bucket(self, weights: WeightsRef) -> WeightsRef:
        """Small weights lie in the object store too once they are a model's version, so that anyone can fetch them."""
        if weights.inline is None:
            return weights
        with TemporaryDirectory() as directory:
            file = Path(directory) / weights.digest
            file.write_bytes(weights.inline)
            return await (await self._bus.blobs("models")).put(file, weights)

    async def free_last_rounds(self, task: FederatedTask) -> None:
        """What an ended task's last rounds held, but for its result, where its aggregation worker was killed before it
        could free it itself."""
        uploads: dict[str, set[str]] = {}
        models = await self._bus.blobs("models")
        for round in range(max(0, task.status.round - LATEST), task.status.round + 1):
            entry = await self._rounds.get(f"{task.metadata.uid}.{round}")
            if entry is None:
                continue
            closed = Aggregation.model_validate_json(entry.value)
            for edge, digest in closed.uploads():
                uploads.setdefault(edge, set()).add(digest)
            model = closed.model
            if model is not None and model.inline is None and model.digest not in self._models_in_use():
                await models.delete(model.digest)
        for edge, digests in sorted(uploads.items()):
            bucket = await self._bus.blobs(upload_bucket(edge))
            for digest in sorted(digests.intersection(await bucket.digests())):
                await bucket.delete(digest)

    def _models_in_use(self) -> set[str]:
        models = self._store.all(Model)
        used = [version.weights for model in models for version in model.status.versions]
        used += [model.spec.weights for model in models if model.spec.weights is not None]
        running = [task for task in self._store.all(FederatedTask) if task.status.phase == "Running"]
        used += [task.status.model for task in running if task.status.model is not None]
        return {weights.digest for weights in used}
