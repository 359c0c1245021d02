"""The client of the coordinator for ordinary code: ``AsyncClient`` in an event loop of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from heliograph.algorithm_files import Package
from heliograph.blocking_resources import (
    BlockingDatasetResources,
    BlockingIncrementalJobs,
    BlockingJobs,
    BlockingModelResources,
    BlockingPairJobs,
    BlockingResources,
)
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.client import AsyncClient
from heliograph.core.loop_thread import LoopThread
from heliograph.core.signing import Signer
from heliograph.exports import Form
from heliograph.requester import TIMEOUT
from heliograph.resource_requests import DatasetResources, Document, IncrementalJobs, Jobs, ModelResources, PairJobs


class Client:
    """``AsyncClient`` for ordinary code: every call blocks until the answer comes. A context manager.

    Arguments, attributes and errors are those of ``AsyncClient``; the constructor connects.
    """

    jobs: BlockingJobs
    services: BlockingResources
    incremental_jobs: BlockingIncrementalJobs
    pair_jobs: BlockingPairJobs
    models: BlockingModelResources
    datasets: BlockingDatasetResources
    algorithms: BlockingResources
    edges: BlockingResources
    labels: BlockingResources
    invitations: BlockingResources
    users: BlockingResources
    quarantines: BlockingResources

    def __init__(self, server: str | None = None, *, root: str = DEFAULT_ROOT, timeout: float = TIMEOUT) -> None:
        self._thread = LoopThread("heliograph-client")
        try:
            self._client = self._thread.run(_connected(server, root, timeout))
        except BaseException:
            self._thread.close()
            raise
        for plural in declared().features:
            name = plural.replace("-", "_")
            if not hasattr(type(self), name):
                setattr(self, name, self.resources(plural))

    def resources(self, plural: str) -> BlockingResources:
        """Return the resources with a plural name. Raise Refused if the name is unknown."""
        resources = self._client.resources(plural)
        if isinstance(resources, ModelResources):
            return BlockingModelResources(resources, self._thread)
        if isinstance(resources, DatasetResources):
            return BlockingDatasetResources(resources, self._thread)
        if isinstance(resources, IncrementalJobs):
            return BlockingIncrementalJobs(resources, self._thread)
        if isinstance(resources, PairJobs):
            return BlockingPairJobs(resources, self._thread)
        if isinstance(resources, Jobs):
            return BlockingJobs(resources, self._thread)
        return BlockingResources(resources, self._thread)

    def export(self, model: str, target: Path, version: int | str | None = None, *, form: Form = "folder") -> Path:
        """See ``AsyncClient.export``."""
        return self._thread.run(self._client.export(model, target, version, form=form))

    def export_to_mlflow(
        self, model: str, version: int | str | None = None, *, tracking_uri: str = "", name: str = ""
    ) -> str:
        """See ``AsyncClient.export_to_mlflow``."""
        return self._thread.run(self._client.export_to_mlflow(model, version, tracking_uri=tracking_uri, name=name))

    def download(self, model: str, target: Path, version: int | str | None = None) -> Path:
        """See ``AsyncClient.download``."""
        return self._thread.run(self._client.download(model, target, version))

    def format_of(self, model: str, version: int | str | None = None) -> str:
        """See ``AsyncClient.format_of``."""
        return self._thread.run(self._client.format_of(model, version))

    def upload(
        self, model: str, file: Path, *, parent: int | None = None, metrics: Mapping[str, float] | None = None,
        deploy: bool = True,
    ) -> Document:  # fmt: skip
        """See ``AsyncClient.upload``."""
        return self._thread.run(self._client.upload(model, file, parent=parent, metrics=metrics, deploy=deploy))

    def upload_algorithm(
        self, name: str, package: Package, *, signer: Signer | None = None, description: str = ""
    ) -> Document:
        """See ``AsyncClient.upload_algorithm``."""
        uploading = self._client.upload_algorithm(name, package, signer=signer, description=description)
        return self._thread.run(uploading)

    def sign_algorithm(self, name: str, signer: Signer) -> Document:
        """See ``AsyncClient.sign_algorithm``."""
        return self._thread.run(self._client.sign_algorithm(name, signer))

    def download_algorithm(self, name: str, target: Path) -> Path:
        """See ``AsyncClient.download_algorithm``."""
        return self._thread.run(self._client.download_algorithm(name, target))

    def push(self, dataset: str, path: Path, *, edge: str | None = None) -> Document:
        """See ``AsyncClient.push``."""
        return self._thread.run(self._client.push(dataset, path, edge=edge))

    def close(self) -> None:
        self._thread.run(self._client.__aexit__())
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _connected(server: str | None, root: str, timeout: float) -> AsyncClient:
    return await AsyncClient(server, root=root, timeout=timeout).__aenter__()
