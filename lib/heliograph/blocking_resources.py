"""The resources of a cluster for ordinary code: the methods of ``resource_requests``, blocking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from heliograph.core.loop_thread import LoopThread
from heliograph.following import Page, ResourceChange
from heliograph.resource_requests import (
    PAGE,
    DatasetResources,
    Document,
    IncrementalJobs,
    Jobs,
    ModelResources,
    PairJobs,
    Resources,
)

T = TypeVar("T")


class BlockingResources:
    """``Resources`` for ordinary code: the same methods, blocking."""

    def __init__(self, resources: Resources, thread: LoopThread) -> None:
        self._resources = resources
        self._run = thread.run

    def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._run(self._resources.create(document, dry_run=dry_run))

    def update(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._run(self._resources.update(document, dry_run=dry_run))

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._run(self._resources.apply(document, dry_run=dry_run))

    def get(self, name: str) -> Document:
        return self._run(self._resources.get(name))

    def list(self, *, selector: str = "") -> list[Document]:
        return self._run(self._resources.list(selector=selector))

    def pages(self, *, selector: str = "", limit: int = PAGE) -> Iterator[Page]:
        return self._each(self._resources.pages(selector=selector, limit=limit))

    def delete(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        return self._run(self._resources.delete(name, resource_version=resource_version, dry_run=dry_run))

    def stop(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        return self._run(self._resources.stop(name, resource_version=resource_version, dry_run=dry_run))

    def start(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        return self._run(self._resources.start(name, resource_version=resource_version, dry_run=dry_run))

    def join(
        self, name: str, edge: str | None = None, *, dataset: str | None = None, num_samples: int | None = None,
        dry_run: bool = False,
    ) -> Document:
        return self._run(
            self._resources.join(name, edge, dataset=dataset, num_samples=num_samples, dry_run=dry_run)
        )

    def collect(self, *, dry_run: bool = False) -> Document:
        return self._run(self._resources.collect(dry_run=dry_run))

    def ask(self, verb: str, name: str | None = None, **fields: Any) -> Any:
        return self._run(self._resources.ask(verb, name, **fields))

    def watch(self, name: str, *, since: str = "") -> Iterator[Document]:
        return self._each(self._resources.watch(name, since=since))

    def changes(self, *, since: str = "", selector: str = "") -> Iterator[ResourceChange]:
        return self._each(self._resources.changes(since=since, selector=selector))

    def _each(self, stream: AsyncIterator[T]) -> Iterator[T]:
        while True:
            try:
                yield self._run(anext(stream))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return


class BlockingDatasetResources(BlockingResources):
    """``DatasetResources`` for ordinary code: the same methods, blocking."""

    def __init__(self, resources: DatasetResources, thread: LoopThread) -> None:
        super().__init__(resources, thread)
        self._datasets = resources

    def versions(self, name: str) -> Document:
        return self._run(self._datasets.versions(name))


class BlockingModelResources(BlockingResources):
    """``ModelResources`` for ordinary code: the same methods, blocking."""

    def __init__(self, resources: ModelResources, thread: LoopThread) -> None:
        super().__init__(resources, thread)
        self._models = resources

    def versions(self, name: str, *, before: int | None = None, limit: int | None = None) -> Document:
        return self._run(self._models.versions(name, before=before, limit=limit))

    def evaluation(self, name: str, version: int | str | None = None) -> Document:
        return self._run(self._models.evaluation(name, version))

    def deployment(self, name: str, *, state: str | None = None, after: str | None = None) -> Document:
        return self._run(self._models.deployment(name, state=state, after=after))

    def register(self, name: str, weights: Document, **fields: Any) -> Document:
        return self._run(self._models.register(name, weights, **fields))

    def rollout(
        self, name: str, version: int, canary: Mapping[str, Any] | None = None, *, resource_version: str = "",
        dry_run: bool = False,
    ) -> Document:  # fmt: skip
        made = self._models.rollout(name, version, canary, resource_version=resource_version, dry_run=dry_run)
        return self._run(made)

    def alias(
        self, name: str, alias: str, version: int | None = None, *, was: int | None = None,
        edges: Sequence[str] | None = None, remove: bool = False, resource_version: str = "", dry_run: bool = False,
    ) -> Document:  # fmt: skip
        return self._run(
            self._models.alias(name, alias, version, was=was, edges=edges, remove=remove,
                               resource_version=resource_version, dry_run=dry_run)
        )  # fmt: skip

    def rollback(
        self, name: str, *, alias: str = "champion", to: int | None = None, resource_version: str = "",
        dry_run: bool = False,
    ) -> Document:  # fmt: skip
        made = self._models.rollback(name, alias=alias, to=to, resource_version=resource_version, dry_run=dry_run)
        return self._run(made)

    def key(self) -> Document:
        return self._run(self._models.key())


class BlockingIncrementalJobs(BlockingResources):
    """``IncrementalJobs`` for ordinary code."""

    def __init__(self, resources: IncrementalJobs, thread: LoopThread) -> None:
        super().__init__(resources, thread)
        self._jobs = resources

    def training(self, name: str, *, dry_run: bool = False) -> Document:
        return self._run(self._jobs.training(name, dry_run=dry_run))

    def evaluation(self, name: str, *, dry_run: bool = False) -> Document:
        return self._run(self._jobs.evaluation(name, dry_run=dry_run))

    def deployment(self, name: str, *, dry_run: bool = False) -> Document:
        return self._run(self._jobs.deployment(name, dry_run=dry_run))

    def models(self, name: str) -> Document:
        return self._run(self._jobs.models(name))


class BlockingPairJobs(BlockingResources):
    """``PairJobs`` for ordinary code."""

    def __init__(self, resources: PairJobs, thread: LoopThread) -> None:
        super().__init__(resources, thread)
        self._jobs = resources

    def models(self, name: str) -> Document:
        return self._run(self._jobs.models(name))


class BlockingJobs(BlockingResources):
    """``Jobs`` for ordinary code."""

    def __init__(self, jobs: Jobs, thread: LoopThread) -> None:
        super().__init__(jobs, thread)
        self._jobs = jobs

    def dataset(self, name: str) -> Document:
        return self._run(self._jobs.dataset(name))

    def models(self, name: str) -> Document:
        return self._run(self._jobs.models(name))

    def training(self, name: str) -> Document:
        return self._run(self._jobs.training(name))

    def evaluation(self, name: str) -> Document:
        return self._run(self._jobs.evaluation(name))

    def deployment(self, name: str) -> Document:
        return self._run(self._jobs.deployment(name))
