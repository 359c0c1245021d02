"""The controller of data sets: moves uploaded samples into their bucket, and notes what was trained on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel

from heliograph.bus.contract.buckets import DATASETS
from heliograph.bus.contract.dataset_requests import DatasetVersions
from heliograph.bus.contract.resources import Dataset, Edge, FederatedTask, WeightsRef
from heliograph.bus.contract.resources.dataset import DatasetContent, TrainedVersion
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.registry.dataset_versions import merged, trained_by, with_trained
from heliograph.core.errors import Refused


class DatasetController(Feature[Dataset]):
    """Keeps data sets. Their indexes come from the edges' reports (``edges.reported``)."""

    async def prepare(self) -> None:
        self._noted: set[str] = set()
        """Uids of the jobs whose data sets have been noted by this coordinator."""

    def validate(self, resource: Dataset, topic: str) -> None:
        content = resource.spec.content
        if content is not None and content.inline is None and content.bucket != DATASETS:
            raise Refused("invalid", topic=topic, field="spec.content", got=content.bucket or "neither",
                          expected=f"the bytes as inline, or bucket {DATASETS}",
                          hint="'heliograph datasets push' uploads a file or a directory.")  # fmt: skip

    def changed(self, known: Dataset, changed: Dataset) -> Dataset:
        """Keep the reference to samples that are in their bucket where the same ones come inline again."""
        before, content = known.spec.content, changed.spec.content
        if before is None or content is None or content.inline is None:
            return changed
        if content.model_copy(update={"inline": None, "bucket": before.bucket}) != before:
            return changed
        return changed.model_copy(update={"spec": changed.spec.model_copy(update={"content": before})})

    async def answer(self, verb: str, body: BaseModel, resource: Dataset | None, caller: str) -> DatasetVersions:
        assert verb == "versions" and resource is not None
        status = resource.status
        present = {edge: index.version for edge, index in status.edges.items() if index.version}
        return DatasetVersions(name=resource.name, versions=status.versions, present=present, trained=status.trained,
                               waiting=status.waiting)  # fmt: skip

    async def reconcile(self) -> None:
        """Move inline samples into their bucket, from where edges fetch them, and note finished trainings."""
        for dataset in self.resources():
            content = dataset.spec.content
            if content is not None and content.inline is not None:
                with self.context.failures.contain(f"data set {dataset.name}"):
                    stored = await self._stored(content, content.inline)
                    await self.context.step(Dataset, dataset.name, partial(_with_content, content, stored))
        ended = [task for task in self.context.store.all(FederatedTask)
                 if task.status.phase == "Succeeded" and task.metadata.uid not in self._noted]  # fmt: skip
        for name, trained in merged(map(trained_by, ended)).items():
            with self.context.failures.contain(f"data set {name}"):
                known = {edge: each for edge, each in trained.items() if self.context.store.get(Edge, edge) is not None}
                await self.context.step(Dataset, name, partial(_with_trained, known))
        self._noted.update(task.metadata.uid for task in ended)

    async def _stored(self, content: DatasetContent, data: bytes) -> DatasetContent:
        ref = WeightsRef(digest=content.digest, size=content.size)
        with TemporaryDirectory() as directory:
            file = Path(directory) / "content"
            file.write_bytes(data)
            await (await self.context.port.bus.blobs(DATASETS)).put(file, ref)
        return content.model_copy(update={"inline": None, "bucket": DATASETS})


def _with_content(before: DatasetContent, after: DatasetContent, dataset: Dataset) -> Dataset:
    if dataset.spec.content != before:
        return dataset
    return dataset.model_copy(update={"spec": dataset.spec.model_copy(update={"content": after})})


def _with_trained(trained: dict[str, TrainedVersion], dataset: Dataset) -> Dataset:
    status = with_trained(dataset.status, trained)
    return dataset if status is dataset.status else dataset.model_copy(update={"status": status})
