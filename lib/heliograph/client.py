"""The asyncio client of the coordinator, over NATS or MQTT; ``blocking_client`` is the one for ordinary code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from heliograph import exports
from heliograph.algorithm_files import Package, fetch_package, package_in, sign_stored, upload_package
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Model, ModelVersion
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer
from heliograph.dataset_files import store_samples
from heliograph.model_files import described_by, fetch, store, version_of, version_with
from heliograph.model_verbs import given, which
from heliograph.requester import TIMEOUT, Requester
from heliograph.resource_requests import (
    BY_PLURAL,
    DatasetResources,
    Document,
    IncrementalJobs,
    Jobs,
    ModelResources,
    PairJobs,
    Resources,
)
from heliograph.server import locate

if TYPE_CHECKING:
    from heliograph.bus.contract.model_requests import ModelExport


class AsyncClient(Requester):
    """A connection to a cluster; an async context manager.

    Each kind of resource is an attribute named by its plural, with ``_`` for ``-``, those of installed outside features
    too.

    Args:
        server: ``nats://USER:TOKEN@…``, ``mqtt://…``, or a user's ``cluster.json``; by default ``HELIOGRAPH_SERVER``,
            or the cluster of ``heliograph up``.
        root: first words of every topic.
        timeout: longest wait for an answer, in seconds.
        connect_timeout: longest wait for the connection, in seconds; by default ``timeout``.
        leader_timeout: seconds in which a request is sent again while no coordinator answers, since one that is lost is
            followed by the next, or none reaches its store, and in which a download goes on after a lost link.

    Raises:
        Refused: if the server's URL is invalid.
        HeliographError: if no cluster is found.
        Unreachable: on entering the context, if the server does not answer; Forbidden, if it refuses the login.
    """

    jobs: Jobs
    services: Resources
    incremental_jobs: IncrementalJobs
    pair_jobs: PairJobs
    models: ModelResources
    datasets: DatasetResources
    algorithms: Resources
    edges: Resources
    labels: Resources
    invitations: Resources
    users: Resources
    quarantines: Resources

    def __init__(
        self,
        server: str | None = None,
        *,
        root: str = DEFAULT_ROOT,
        timeout: float = TIMEOUT,
        connect_timeout: float | None = None,
        leader_timeout: float = 0.0,
    ) -> None:
        super().__init__(locate(server), root, timeout, connect_timeout, leader_timeout)
        for plural in declared().features:
            name = plural.replace("-", "_")
            if not hasattr(type(self), name):  # "resources", for one, is reached by the method alone
                setattr(self, name, self.resources(plural))

    def resources(self, plural: str) -> Resources:
        """Return the resources with a plural name. Raise Refused if the name is unknown."""
        if plural not in declared().verbs:
            raise Refused("unknown-resource", field="resource", expected=" or ".join(declared().verbs), got=plural)
        return BY_PLURAL.get(plural, Resources)(self, plural)

    async def download(self, model: str, target: Path, version: int | str | None = None) -> Path:
        """Write a version of a model to the safetensors file ``target``, verified by its SHA-256. Return ``target``.

        Args:
            version: number of the version, or an alias; by default the deployed one. Where no job has succeeded yet,
                it is the last global model of the newest job that failed or was stopped.

        Raises:
            Refused: if there is no such model, or no such version of it.
            HeliographError: if the model has no version yet.
        """
        found = await self._version(model, version)
        part = target.with_name(f"{target.name}.{found.weights.digest[:12]}")
        await self.fetch(found.weights, part)
        return part.replace(target)

    async def format_of(self, model: str, version: int | str | None = None) -> str:
        """Return the format of the file that ``download`` writes: ``safetensors``, ``onnx`` or ``tflite``."""
        return (await self._version(model, version)).weights.format

    async def _version(self, model: str, version: int | str | None) -> ModelVersion:
        return version_of(Model.model_validate(await self.models.get(model), extra="ignore"), version)

    async def fetch(self, weights: WeightsRef, target: Path) -> Path:
        """Write weights that an event or a document names; see ``download``."""
        return await self.patiently(lambda: fetch(self.bus, weights, target, self._world))

    async def export(
        self, model: str, target: Path, version: int | str | None = None, *, form: exports.Form = "folder"
    ) -> Path:
        """Write a version of a model in a form that other programs read. Return ``target``.

        Args:
            target: a folder that does not exist yet.
            version: number of the version, or an alias; by default the deployed one.
            form: ``folder`` with weights, record and signature, as OpenSSF model signing has it; or ``oci``, an image
                layout with an artifact of the CNCF ModelPack specification.

        Raises:
            Refused: if there is no such model or version, or ``target`` exists.
        """
        exports.require_free(target)
        found = await self._export(model, version)
        with TemporaryDirectory(dir=exports.parent_of(target), prefix=".heliograph-") as directory:
            weights = await self.fetch(found.version.weights, Path(directory) / "weights")
            exports.write_export(found, weights, target, form)
        return target

    async def export_to_mlflow(
        self, model: str, version: int | str | None = None, *, tracking_uri: str = "", name: str = ""
    ) -> str:
        """Register a version of a model in an MLflow registry, with its record as a run. Return its URI there. The same
        version again changes nothing. ``mlflow-skinny`` has to be installed.

        Args:
            version: number of the version, or an alias; by default the deployed one.
            tracking_uri: the registry; by default the one that MLflow is configured for.
            name: name of the registered model; by default the model's.
        """
        from heliograph.exports import mlflow

        found = await self._export(model, version)
        with TemporaryDirectory(prefix="heliograph-") as directory:
            weights = await self.fetch(found.version.weights, Path(directory) / "weights")
            folder = exports.write_export(found, weights, Path(directory) / "model", "folder")
            made: str = await self._world.in_thread(mlflow.register, found, folder, tracking_uri, name or model)
        return made

    async def _export(self, model: str, version: int | str | None) -> ModelExport:
        from heliograph.bus.contract.model_requests import ModelExport

        return ModelExport.model_validate(await self.models.ask("export", model, **which(version)), extra="ignore")

    async def upload(
        self,
        model: str,
        file: Path,
        *,
        parent: int | None = None,
        metrics: Mapping[str, float] | None = None,
        deploy: bool = True,
    ) -> Document:
        """Make a safetensors file the next version of a model, and the model where there is none. Return the version.
        Jobs and services start from the version unless the model has another ``champion``. A file whose name ends in
        ``.onnx`` or ``.tflite`` is a whole model, for services with that format; the version then has its inputs and
        outputs. A file that is a version already adds none.

        Args:
            parent: number of the version that the file was made from.
            metrics: what the version scores.
            deploy: False keeps what is deployed, so that ``models.rollout`` may try the version first.

        Raises:
            Refused: if the file is none of its format, or there is no version of that number.
            HeliographError: if the file is larger than 256 kB, and this login may not write into the object store.
        """
        weights = await store(self.bus, file, self._world)
        described = await self._world.in_thread(described_by, file, weights.format)
        try:
            await self.models.get(model)
        except Refused as error:
            if error.code != "not-found":
                raise
            await self.models.create({"kind": "Model", "metadata": {"name": model}})
        reference = weights.model_dump(mode="json", exclude_none=True)
        fields = given(parent=parent, metrics=dict(metrics) if metrics else None, deploy=None if deploy else False)
        made = await self.models.register(model, reference, **described, **fields)
        return version_with(made, weights.digest)

    async def upload_algorithm(
        self, name: str, package: Package, *, signer: Signer | None = None, description: str = ""
    ) -> Document:
        """Create an algorithm of a package (``heliograph.algorithm_files.pack``), or give it another package. Return
        its document. Jobs name it as ``workerSpec.algorithm``; edges run it once their operators allow its digest.

        Args:
            signer: the key of an operator; without one a signature of the same package stays.

        Raises:
            Refused: if the coordinator refuses the package.
            HeliographError: if the package is larger than 256 kB, and this login may not write into the object store.
        """
        return await upload_package(
            self.bus, self._world, self.algorithms, name, package, signer=signer, description=description
        )

    async def sign_algorithm(self, name: str, signer: Signer) -> Document:
        """Sign the package of an algorithm with the key of an operator: edges that trust the key run it from then on.
        Return its document."""
        return await sign_stored(self.algorithms, name, signer)

    async def download_algorithm(self, name: str, target: Path) -> Path:
        """Write the package of an algorithm to the file ``target``, a zip, proven. Return ``target``.

        Raises:
            Refused: if there is no such algorithm, or what is stored is not its package.
            HeliographError: if the algorithm is no package, or this login has no object store.
        """
        package = package_in(await self.algorithms.get(name))
        return await self.patiently(lambda: fetch_package(self.bus, package, target))

    async def push(self, dataset: str, path: Path, *, edge: str | None = None) -> Document:
        """Upload samples as the content of a data set, which the coordinator creates where there is none, and return
        its document. Every edge, or the named one, fetches them and reports their version; other samples under the same
        name are another version.

        Args:
            path: a data file, or a directory of files.
            edge: the edge that fetches them; by default that of the data set's document, or every edge.

        Raises:
            Refused: if ``path`` is empty or holds more than files, or the data set lies in files of the edges' own.
            HeliographError: if the file is larger than 256 kB, and this login may not write into the object store.
            OSError: if the file cannot be read.
        """
        try:
            before = (await self.datasets.get(dataset)).get("spec", {})
        except Refused as error:
            if error.code != "not-found":
                raise
            before = {}
        if before.get("url") is not None:
            raise Refused("exists", topic=f"dataset/{dataset}", expected="a data set of uploaded samples",
                          got=f"one whose document names the edges' own {before['url']}",
                          hint="Push the samples under another name.")  # fmt: skip
        content = await store_samples(self.bus, path, self._world)
        spec = {**before, "content": content.model_dump(mode="json", by_alias=True, exclude_none=True)}
        if edge is not None:
            spec["nodeName"] = edge
        return await self.datasets.apply({"kind": "Dataset", "metadata": {"name": dataset}, "spec": spec})
