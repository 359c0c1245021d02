"""The asyncio client of the coordinator, over NATS or MQTT; ``blocking_client`` is the one for ordinary code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

from heliograph import exports
from heliograph.algorithm_files import Package, fetch_package, package_in, sign_stored, upload_package
from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.model_requests import ModelExport
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Model
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import DEFAULT_ROOT, REQUEST
from heliograph.bus.reply import TOO_MANY
from heliograph.bus.transport import Message
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, Refused, Unreachable
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.dataset_files import store_samples
from heliograph.model_files import fetch, require_untrained, store, version_of
from heliograph.model_verbs import which
from heliograph.resource_requests import (
    BY_PLURAL,
    DatasetResources,
    Document,
    IncrementalJobs,
    Jobs,
    ModelResources,
    Resources,
)
from heliograph.server import locate

T = TypeVar("T")
TIMEOUT = 10.0
REPEAT_AFTER = 3.0
"""Seconds without an answer after which a request is sent again. A deletion is not: the answer to the second would be
that there is no such resource."""
REPEATED_MOST = 4096
"""Bytes of a request that is sent again so soon: a large one may still be read."""
NEXT_LEADER_AFTER = 0.5
"""Seconds after which a request that nobody answered is sent again."""
CHECK_EVERY = 0.1
"""Seconds after which a client that is not connected checks the reason."""


def result_of(reply: bytes) -> Any:
    """Return the result in the coordinator's reply; see ``answer_of``."""
    return answer_of(reply).get("result")


def answer_of(reply: bytes) -> Document:
    """Return the coordinator's reply: ``result``, and fields beside it. Raise Refused or HeliographError if it is an
    error."""
    answer: Document = json.loads(reply)
    if answer.get("ok"):
        return answer
    error = answer.get("error") or {}
    if "expected" in error:
        raise Refused(error.get("code", "refused"), topic=error.get("topic", ""), field=error.get("field", ""),
                      expected=error["expected"], got=error.get("got", ""), hint=error.get("hint", ""),
                      details=error.get("details"))  # fmt: skip
    raise HeliographError(str(error.get("message", "the coordinator refused")))


def _retry_after(reply: bytes) -> float | None:
    """Return the seconds after which to send a refused request again; None for any other reply."""
    if TOO_MANY.encode() not in reply[:200]:
        return None
    error = json.loads(reply).get("error") or {}
    return float(error.get("retry_after", 1.0)) if error.get("code") == TOO_MANY else None


class AsyncClient:
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
            followed by the next, and in which a download goes on after a lost link.

    Raises:
        Refused: if the server's URL is invalid.
        HeliographError: if no cluster is found.
        Unreachable: on entering the context, if the server does not answer; Forbidden, if it refuses the login.
    """

    jobs: Jobs
    services: Resources
    incremental_jobs: IncrementalJobs
    models: ModelResources
    datasets: DatasetResources
    algorithms: Resources
    edges: Resources
    labels: Resources
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
        self.server = locate(server)
        self.timeout = timeout
        login = ConnectionUrl.parse(self.server.url).credentials
        self._logged_in = bool(login.user or login.token)
        self._connect_timeout = timeout if connect_timeout is None else connect_timeout
        self._leader_timeout = leader_timeout
        self._world = world = World()
        self.bus = connect(self.server.url, root=root, world=world, name=f"client-{world.new_id()[:12]}")
        for plural in declared().features:
            name = plural.replace("-", "_")
            if not hasattr(type(self), name):  # "resources", for one, is reached by the method alone
                setattr(self, name, self.resources(plural))

    def resources(self, plural: str) -> Resources:
        """Return the resources with a plural name. Raise Refused if the name is unknown."""
        if plural not in declared().verbs:
            raise Refused("unknown-resource", field="resource", expected=" or ".join(declared().verbs), got=plural)
        return BY_PLURAL.get(plural, Resources)(self, plural)

    async def request(self, resource: str, verb: str, document: Mapping[str, Any]) -> Any:
        """Send one request and return the result in its reply; see ``answer``."""
        return (await self.answer(resource, verb, document)).get("result")

    async def answer(self, resource: str, verb: str, document: Mapping[str, Any]) -> Document:
        """Send one request and return its reply: ``result``, and fields beside it. Send it again later where the
        coordinator answers that this caller has too many waiting, as long as the client's timeout allows.

        Raises:
            Refused: if the coordinator refuses the request.
            Unreachable: if no reply comes within the client's timeout, and within its ``leader_timeout``.
        """
        body = json.dumps(document).encode()
        until = self._world.monotonic() + self.timeout + self._leader_timeout
        while True:
            repeat = verb != "delete" and len(body) <= REPEATED_MOST
            topic = REQUEST.at(resource=resource, verb=verb)
            message = await self._patiently(partial(self._answered, topic, body, repeat))
            wait = _retry_after(message.body)
            if wait is None or self._world.monotonic() + wait >= until:
                return answer_of(message.body)
            await self._world.sleep(wait)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of an idempotent call, calling again while nobody answers, ``leader_timeout`` at most."""
        until = self._world.monotonic() + self._leader_timeout
        while True:
            try:
                return await call()
            except Unreachable as error:
                if isinstance(error, Forbidden) or self._world.monotonic() >= until:
                    raise
                await self._world.sleep(NEXT_LEADER_AFTER)

    async def _answered(self, topic: str, body: bytes, repeat: bool) -> Message:
        """Send a request and return its reply; repeat it after a lost link, since every request is idempotent. With
        ``repeat`` also after ``REPEAT_AFTER`` seconds: a broker drops what a coordinator does not read fast enough.

        A caller that blocks the event loop for some seconds loses its link.
        """
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    await self.bus.link.wait_up()
                    with contextlib.suppress(LinkDown, TimeoutError):
                        async with asyncio.timeout(REPEAT_AFTER if repeat else None):
                            return await self.bus.request(topic, body, self.timeout)
        except TimeoutError:
            raise Unreachable(f"{self.server.shown}: no answer within {self.timeout:g} s") from None
        except (Forbidden, Refused) as error:
            if self._logged_in or (isinstance(error, Refused) and error.code != "forbidden"):
                raise
            raise Forbidden(f"{self.server.shown}: only a login may send requests; anonymous clients read status. "
                            "'heliograph up' writes a login for each --user, see its output") from None  # fmt: skip

    async def download(self, model: str, target: Path, version: int | str | None = None) -> Path:
        """Write a version of a model to the safetensors file ``target``, verified by its SHA-256. Return ``target``.

        Args:
            version: number of the version, or an alias; by default the deployed one. Where no job has succeeded yet,
                it is the last global model of the newest job that failed or was stopped.

        Raises:
            Refused: if there is no such model, or no such version of it.
            HeliographError: if the model has no version yet.
        """
        found = version_of(Model.model_validate(await self.models.get(model), extra="ignore"), version)
        part = target.with_name(f"{target.name}.{found.weights.digest[:12]}")
        await self.fetch(found.weights, part)
        return part.replace(target)

    async def fetch(self, weights: WeightsRef, target: Path) -> Path:
        """Write weights that an event or a document names; see ``download``."""
        return await self._patiently(lambda: fetch(self.bus, weights, target, self._world))

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
        return ModelExport.model_validate(await self.models.ask("export", model, **which(version)), extra="ignore")

    async def upload(self, model: str, file: Path) -> Document:
        """Create a model with the weights of a safetensors file, or replace the weights that it was created with.
        Return its document. Jobs start from these weights.

        Raises:
            Refused: if the file is no safetensors file, or the model has trained versions, which come before these.
            HeliographError: if the file is larger than 256 kB, and this login may not write into the object store.
        """
        try:
            before = await self.models.get(model)
        except Refused as error:
            if error.code != "not-found":
                raise
            before = {}
        require_untrained(model, before)
        weights = await store(self.bus, file, self._world)
        spec = {**before.get("spec", {}), "weights": weights.model_dump(mode="json", exclude_none=True)}
        return await self.models.apply({"kind": "Model", "metadata": {"name": model}, "spec": spec})

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
        return await self._patiently(lambda: fetch_package(self.bus, package, target))

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

    async def __aenter__(self) -> Self:
        await self.bus.open()
        try:
            await self._connected()
        except BaseException:
            await self.bus.close()
            raise
        return self

    async def _connected(self) -> None:
        """Wait for the connection. Raise Unreachable with the reason; Forbidden, at once, if the login is refused."""
        deadline = self._world.monotonic() + self._connect_timeout
        while True:
            left = deadline - self._world.monotonic()
            try:
                return await self.bus.link.wait_up(max(0.0, min(CHECK_EVERY, left)))
            except Unreachable:
                refused = self.bus.link.refused
                if refused or left <= CHECK_EVERY:
                    reason = refused or self.bus.last_error or "no answer"
                    hint = "Check the user and the password." if refused else "Is it running?"
                    failure = Forbidden if refused else Unreachable
                    raise failure(f"cannot reach {self.server.shown}: {reason}. {hint}") from None

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close()

