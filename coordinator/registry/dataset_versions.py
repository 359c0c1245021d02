"""The versions of data sets, and the samples that wait for a training. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from heliograph.bus.contract.resources import DatasetIndex, FederatedTask
from heliograph.bus.contract.resources.dataset import (
    NAMED_EDGES,
    VERSIONS,
    DatasetStatus,
    DatasetVersion,
    TrainedVersion,
)


def with_versions(status: DatasetStatus, changed: Mapping[str, DatasetIndex | None], now: str) -> DatasetStatus:
    """Return a data set's status after some edges' indexes have changed, with the versions that are new.

    A version that is known never changes, but for the edges that have had it.

    Args:
        changed: edge to its present index; None where it has the data set no longer.
    """
    versions = {each.version: each for each in status.versions}
    for edge, index in changed.items():
        if index is None or not index.version:
            continue
        known = versions.get(index.version)
        if known is None:
            versions[index.version] = _version_of(index, edge, now)
        elif edge not in known.edges and len(known.edges) < NAMED_EDGES:
            versions[index.version] = known.model_copy(update={"edges": [*known.edges, edge]})
    return with_waiting(status.model_copy(update={"versions": [*versions.values()][-VERSIONS:]}))


def with_trained(status: DatasetStatus, trained: Mapping[str, TrainedVersion]) -> DatasetStatus:
    """Return a data set's status after a training that succeeded; the same object if nothing changes.

    What a later training has used stays.
    """
    newer = {edge: each for edge, each in trained.items()
             if edge not in status.trained or status.trained[edge].time < each.time}  # fmt: skip
    if not newer:
        return status
    return with_waiting(status.model_copy(update={"trained": status.trained | newer}))


def without_edge(status: DatasetStatus, edge: str) -> DatasetStatus:
    """Return a data set's status without what a deleted edge has trained on. An edge that is only away keeps it."""
    trained = {name: each for name, each in status.trained.items() if name != edge}
    return status.model_copy(update={"trained": trained})


def trained_by(task: FederatedTask) -> dict[str, dict[str, TrainedVersion]]:
    """Return the versions that a job has trained on, by data set and edge.

    None unless it succeeded, and none of an edge of which no update was counted.
    """
    status = task.status
    found: dict[str, dict[str, TrainedVersion]] = {}
    if status.phase != "Succeeded":
        return found
    for edge, dataset in status.datasets.items():
        version = status.dataset_versions.get(edge, "")
        if dataset and version and edge not in status.uncounted:
            samples = (status.pinned_samples or {}).get(edge, 0)
            found.setdefault(dataset, {})[edge] = TrainedVersion(
                version=version, samples=samples, job=task.name, time=status.completion_time
            )
    return found


def with_waiting(status: DatasetStatus) -> DatasetStatus:
    """Count the samples of each edge that no training which succeeded has used."""
    versions = {each.version: each for each in status.versions}
    waiting = {}
    for edge, index in status.edges.items():
        trained = status.trained.get(edge)
        if index.version and (count := _waiting(index, trained.version if trained is not None else "", versions)):
            waiting[edge] = count
    return status.model_copy(update={"waiting": waiting})


def columns_digest(columns: Mapping[str, str]) -> str:
    """Return the SHA-256 of a schema: of the JSON list of names and types."""
    return hashlib.sha256(json.dumps([*columns.items()], ensure_ascii=False).encode()).hexdigest()


def _waiting(index: DatasetIndex, trained: str, versions: Mapping[str, DatasetVersion]) -> int:
    """Return how many samples of an index were added since the trained version; all, where it is no ancestor that only
    grew."""
    present, count, seen = index.version, 0, set[str]()
    while present and present not in seen:
        if present == trained:
            return count
        seen.add(present)
        version = versions.get(present)
        if version is None or version.new_samples >= version.samples:
            break
        count += version.new_samples
        present = version.parent
    return index.samples


def _version_of(index: DatasetIndex, edge: str, now: str) -> DatasetVersion:
    return DatasetVersion(
        version=index.version, parent=index.parent, samples=index.samples, size=index.size, files=index.files,
        format=index.format, new_samples=index.new_samples, columns_digest=columns_digest(index.columns), edges=[edge],
        time=now,
    )  # fmt: skip


def merged(found: Iterable[Mapping[str, Mapping[str, TrainedVersion]]]) -> dict[str, dict[str, TrainedVersion]]:
    """Merge what several jobs have trained on: of an edge's data set the newest training counts."""
    newest: dict[str, dict[str, TrainedVersion]] = {}
    for each in found:
        for dataset, edges in each.items():
            for edge, trained in edges.items():
                before = newest.setdefault(dataset, {}).get(edge)
                if before is None or before.time < trained.time:
                    newest[dataset][edge] = trained
    return newest
