"""Clients for applications: ask the coordinator, over NATS or MQTT, from asyncio or from ordinary code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from heliograph.bus.connect import connect
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Model, resolve
from heliograph.bus.contract.topics import DEFAULT_ROOT, REQUEST, STATUS
from heliograph.bus.transport import Message
from heliograph.core.errors import HeliographError, LinkDown, Refused, Unreachable
from heliograph.core.world import World
from heliograph.server import locate

T = TypeVar("T")
Document = dict[str, Any]
TIMEOUT = 10.0
LOOK_EVERY = 0.1
"""Seconds after which a client that is not connected looks why."""
_NOT_LET_IN = re.compile("authori[sz]|password", re.IGNORECASE)


class Resources:
    """One kind of resource: ``await client.jobs.create(document)``. Verbs are those that its feature declares."""

    def __init__(self, client: AsyncClient, plural: str) -> None:
        self._client = client
        self._plural = plural

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Creates; the same document again changes nothing. With ``dry_run`` only says what would come of it.

        Raises Refused naming the wrong field.
        """
        made: Document = await self._ask("create", _trial(document) if dry_run else dict(document))
        return made

    async def update(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Changes the spec, labels and annotations of what exists; see ``create``."""
        made: Document = await self._ask("update", _trial(document) if dry_run else dict(document))
        return made

    async def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Creates or updates; see ``create``."""
        try:
            return await self.create(document, dry_run=dry_run)
        except Refused as error:
            if error.code != "exists":
                raise
        return await self.update(document, dry_run=dry_run)

    async def get(self, name: str) -> Document:
        found: Document = await self._ask("get", {"name": name})
        return found

    async def list(self) -> list[Document]:
        found: list[Document] = await self._ask("list", {})
        return found

    async def delete(self, name: str) -> Document:
        found: Document = await self._ask("delete", {"name": name})
        return found

    async def stop(self, name: str) -> Document:
        found: Document = await self._ask("stop", {"name": name})
        return found

    async def start(self, name: str) -> Document:
        """Starts again what was stopped; a service can be."""
        found: Document = await self._ask("start", {"name": name})
        return found

    async def watch(self, name: str) -> AsyncIterator[Document]:
        """The resource now, and again each time it changes; a job until it has ended, others until they are deleted."""
        ends = declared().features[self._plural].ended
        bus = self._client.bus
        async with bus.subscribe(STATUS.at(resource=self._plural, name=name)) as messages:
            document = await self.get(name)
            yield document
            while document.get("status", {}).get("phase") not in ends:
                try:
                    async with asyncio.timeout(5):
                        message = await anext(messages)
                except TimeoutError:  # a hint may be lost; what is stored is not
                    fresh = await self.get(name)
                else:
                    if not message.body:
                        return
                    fresh = decode(message.body, message.topic).data
                if fresh != document:
                    document = fresh
                    yield document

    async def _ask(self, verb: str, document: Document) -> Any:
        return await self._client.request(self._plural, verb, document)


def result_of(reply: bytes) -> Any:
    """What the coordinator's reply holds. Raises Refused, or HeliographError, as the reply says."""
    answer = json.loads(reply)
    if answer.get("ok"):
        return answer.get("result")
    error = answer.get("error") or {}
    if "expected" in error:
        raise Refused(error.get("code", "refused"), topic=error.get("topic", ""), field=error.get("field", ""),
                      expected=error["expected"], got=error.get("got", ""), hint=error.get("hint", ""))  # fmt: skip
    raise HeliographError(str(error.get("message", "the coordinator refused")))


class AsyncClient:
    """A connection to a cluster; an async context manager. Each kind of resource is an attribute, by its plural: also
    those of features outside Heliograph that are installed here.

    Args:
        server: ``nats://…`` or ``mqtt://…``; without it ``HELIOGRAPH_SERVER``, or what ``heliograph up`` started.
        timeout: seconds to wait for an answer.
        connect_timeout: seconds to wait for the connection; without it ``timeout``.
    """

    jobs: Resources
    services: Resources
    models: Resources
    datasets: Resources
    algorithms: Resources
    edges: Resources

    def __init__(
        self,
        server: str | None = None,
        *,
        root: str = DEFAULT_ROOT,
        timeout: float = TIMEOUT,
        connect_timeout: float | None = None,
    ) -> None:
        self.server = locate(server)
        self.timeout = timeout
        self._connect_timeout = timeout if connect_timeout is None else connect_timeout
        self._world = world = World()
        name = f"client-{world.new_id()[:12]}"
        # answers come below the topic that anonymous clients may read
        inbox = f"{root.replace('/', '.')}.reply.{name}"
        self.bus = connect(self.server.url, root=root, world=world, name=name, inbox=inbox)
        for plural in declared().features:
            if not hasattr(type(self), plural):  # "resources", for one, is reached by the method alone
                setattr(self, plural, Resources(self, plural))

    def resources(self, plural: str) -> Resources:
        """The resources of that plural name. Raises Refused where there are none such."""
        if plural not in declared().verbs:
            raise Refused("unknown-resource", field="resource", expected=" or ".join(declared().verbs), got=plural)
        return Resources(self, plural)

    async def request(self, resource: str, verb: str, document: Mapping[str, Any]) -> Any:
        """One request, one reply. Raises Refused as the coordinator says it, Unreachable where nobody answers."""
        body = json.dumps(document).encode()
        message = await self._answered(REQUEST.at(resource=resource, verb=verb), body)
        return result_of(message.body)

    async def _answered(self, topic: str, body: bytes) -> Message:
        """Asks again where the link went down meanwhile: every request may be repeated, and a caller that keeps the
        event loop to itself for some seconds loses its link."""
        try:
            async with asyncio.timeout(self.timeout):
                while True:
                    await self.bus.link.wait_up()
                    with contextlib.suppress(LinkDown):
                        return await self.bus.request(topic, body, self.timeout)
        except TimeoutError:
            raise Unreachable(f"{self.server.shown}: no answer within {self.timeout:g} s") from None

    async def download(self, model: str, target: Path) -> Path:
        """The deployed version of a model as a safetensors file at ``target``, verified by its SHA-256.

        Raises HeliographError where the model has no version yet.
        """
        version = resolve(Model.model_validate(await self.models.get(model), extra="ignore"))
        if version is None or not version.version:  # declared weights may be inline, which documents do not show
            raise HeliographError(f"model {model} has no version yet; a job that trains it makes the first")
        ref = version.weights
        partial = target.with_name(f"{target.name}.{ref.digest[:12]}")
        await (await self.bus.blobs(ref.bucket or MODELS)).fetch(ref, partial)
        return partial.replace(target)

    async def __aenter__(self) -> Self:
        await self.bus.open()
        try:
            await self._connected()
        except BaseException:
            await self.bus.close()
            raise
        return self

    async def _connected(self) -> None:
        """Returns when connected. Raises Unreachable with the reason; at once where the login is refused, which no
        further attempt would change."""
        deadline = self._world.monotonic() + self._connect_timeout
        while True:
            left = deadline - self._world.monotonic()
            try:
                return await self.bus.link.wait_up(max(0.0, min(LOOK_EVERY, left)))
            except Unreachable:
                reason = getattr(self.bus, "last_error", "") or "no answer"
            not_let_in = _NOT_LET_IN.search(reason)
            if not_let_in or left <= LOOK_EVERY:
                hint = "Check the user and the password." if not_let_in else "Is it running?"
                raise Unreachable(f"cannot reach {self.server.shown}: {reason}. {hint}")

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close()


class Client:
    """The same for ordinary code: every call blocks until it is answered. A context manager."""

    jobs: BlockingResources
    services: BlockingResources
    models: BlockingResources
    datasets: BlockingResources
    algorithms: BlockingResources
    edges: BlockingResources

    def __init__(self, server: str | None = None, *, root: str = DEFAULT_ROOT, timeout: float = TIMEOUT) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="heliograph-client", daemon=True)
        self._thread.start()
        self._client = self._run(_make(server, root, timeout))
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        for plural in declared().features:
            if not hasattr(type(self), plural):
                setattr(self, plural, self.resources(plural))

    def resources(self, plural: str) -> BlockingResources:
        """The resources of that plural name. Raises Refused where there are none such."""
        return BlockingResources(self._client.resources(plural), self)

    def download(self, model: str, target: Path) -> Path:
        """See ``AsyncClient.download``."""
        return self._run(self._client.download(model, target))

    def close(self) -> None:
        self._run(self._client.__aexit__())
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        with contextlib.suppress(RuntimeError):
            self._loop.close()


class BlockingResources:
    """``Resources`` for ordinary code."""

    def __init__(self, resources: Resources, client: Client) -> None:
        self._resources = resources
        self._client = client

    def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._client._run(self._resources.create(document, dry_run=dry_run))

    def update(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._client._run(self._resources.update(document, dry_run=dry_run))

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        return self._client._run(self._resources.apply(document, dry_run=dry_run))

    def get(self, name: str) -> Document:
        return self._client._run(self._resources.get(name))

    def list(self) -> list[Document]:
        return self._client._run(self._resources.list())

    def delete(self, name: str) -> Document:
        return self._client._run(self._resources.delete(name))

    def stop(self, name: str) -> Document:
        return self._client._run(self._resources.stop(name))

    def start(self, name: str) -> Document:
        return self._client._run(self._resources.start(name))

    def watch(self, name: str) -> Iterator[Document]:
        stream = self._resources.watch(name)
        while True:
            try:
                yield self._client._run(anext(stream))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return


def _trial(document: Mapping[str, Any]) -> Document:
    return {**document, "dry_run": True}


async def _make(server: str | None, root: str, timeout: float) -> AsyncClient:
    return AsyncClient(server, root=root, timeout=timeout)
