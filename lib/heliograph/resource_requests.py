"""The requests about resources, a method for each verb: what ``client.jobs``, ``client.models`` and the others are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import STATUS
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.following import Page, ResourceChange, follow
from heliograph.model_verbs import ModelVerbs

Document = dict[str, Any]
PAGE = 500
"""Resources of one page, at most."""
REREAD_AFTER = 5.0
"""Seconds without a message after which a watch reads the stored document: a message may be lost."""


class Requester(Protocol):
    """A client as these requests use it."""

    bus: Bus

    async def request(self, resource: str, verb: str, document: Mapping[str, Any]) -> Any:
        """Send a request, and return the result of its answer."""
        ...

    async def answer(self, resource: str, verb: str, document: Mapping[str, Any]) -> Document:
        """Send a request, and return its whole answer."""
        ...


class Resources:
    """The requests about one kind of resource: ``await client.jobs.create(document)``.

    The kind's feature declares its verbs. A document is a dict in the shape of Kubernetes (``kind``, ``metadata``,
    ``spec``, ``status``).

    Every method raises:
        Refused: naming the bad field, or if the coordinator refuses the request.
        Unreachable: if no answer comes within the client's timeout.
    """

    def __init__(self, client: Requester, plural: str) -> None:
        self._client = client
        self._plural = plural

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Create a resource and return its document; the same document again changes nothing.

        With ``dry_run`` the coordinator returns the outcome without storing it.
        """
        made: Document = await self._ask("create", _trial(document) if dry_run else dict(document))
        return made

    async def update(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Change spec, labels and annotations of an existing resource and return its document; see ``create``."""
        made: Document = await self._ask("update", _trial(document) if dry_run else dict(document))
        return made

    async def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Document:
        """Create or update a resource and return its document; see ``create``."""
        try:
            return await self.create(document, dry_run=dry_run)
        except Refused as error:
            if error.code != "exists":
                raise
        return await self.update(document, dry_run=dry_run)

    async def get(self, name: str) -> Document:
        """Return the document of a resource."""
        found: Document = await self._ask("get", {"name": name})
        return found

    async def list(self, *, selector: str = "") -> list[Document]:
        """Return the documents of all resources of this kind, sorted by name.

        Args:
            selector: labels that they have, in Kubernetes' syntax: ``site=berlin,tier in (a, b),!old``.
        """
        found: list[Document] = []
        async for page in self.pages(selector=selector):
            found += page.documents
        return found

    async def pages(self, *, selector: str = "", limit: int = PAGE) -> AsyncIterator[Page]:
        """Yield the documents of all resources of this kind, at most ``limit`` at a time. A resource that exists all
        the while is in exactly one page. ``changes`` goes on from the version of the first page.
        """
        after: str | None = None
        while True:
            answer = await self._client.answer(self._plural, "list", _given(limit=limit, selector=selector,
                                                                            **{"continue": after}))  # fmt: skip
            after = answer.get("continue")
            yield Page(answer["result"], answer.get("version", ""), after is not None)
            if after is None:
                return

    async def delete(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        """Delete a resource and return its document.

        Args:
            resource_version: ``metadata.resourceVersion`` of the document that you have seen; refused as ``conflict``
                where the resource was changed since. Without it the resource is deleted as it is.
            dry_run: whether the coordinator is to check the request alone.
        """
        return await self._change("delete", name, resource_version, dry_run)

    async def stop(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        """Stop a job or a service and return its document; see ``delete``."""
        return await self._change("stop", name, resource_version, dry_run)

    async def start(self, name: str, *, resource_version: str = "", dry_run: bool = False) -> Document:
        """Start a stopped job or service again and return its document; see ``delete``. A job goes on from its last
        global model."""
        return await self._change("start", name, resource_version, dry_run)

    async def join(
        self, name: str, edge: str | None = None, *, dataset: str | None = None, num_samples: int | None = None,
        dry_run: bool = False,
    ) -> Document:
        """Let an edge take part in a job that is pending or runs, from its next round on. Return what it has to do now.

        Args:
            edge: the edge, whose agent runs the job's script. A client that logs in as a participant and trains by
                itself leaves it out.
            dataset: the edge's data set; by default the one that the job's workers name.
            num_samples: the largest number of samples that a participant's updates will claim.
        """
        fields = {"edge": edge, "dataset": dataset, "num_samples": num_samples, "dry_run": dry_run or None}
        told: Document = await self.ask("join", name, **{key: each for key, each in fields.items() if each is not None})
        return told

    async def collect(self, *, dry_run: bool = False) -> Document:
        """Delete what has come to the end of its life in the cloud, and return what it was: ``client.models.collect``.

        With ``dry_run`` only say what would be deleted. ``more`` says that another call would go on.
        """
        found: Document = await self._ask("collect", {"dry_run": dry_run})
        return found

    async def ask(self, verb: str, name: str | None = None, **fields: Any) -> Any:
        """Send a request of any verb that the kind's feature declares, and return the result of its answer.

        Args:
            name: the resource; None for a verb that is about none.
            fields: further fields of the request's body. ``topics.md`` has a table for each verb.
        """
        return await self._ask(verb, fields if name is None else {"name": name, **fields})

    async def watch(self, name: str, *, since: str = "") -> AsyncIterator[Document]:
        """Yield the document now and at each change, until a job has ended or another resource is deleted.

        Args:
            since: ``metadata.resourceVersion`` of a document that you have; the first one yielded is newer.
        """
        ends = declared().features[self._plural].ended
        bus = self._client.bus
        async with bus.subscribe(STATUS.at(resource=self._plural, name=name)) as messages:
            document = await self.get(name)
            if not since or _version_of(document) != since:
                yield document
            while document.get("status", {}).get("phase") not in ends:
                try:
                    async with asyncio.timeout(REREAD_AFTER):
                        message = await anext(messages)
                except TimeoutError:  # a status message may be lost; read the stored document
                    fresh = await self.get(name)
                else:
                    if not message.body:
                        return
                    fresh = decode(message.body, message.topic).data
                if fresh != document:
                    document = fresh
                    yield document

    async def changes(self, *, since: str = "", selector: str = "") -> AsyncIterator[ResourceChange]:
        """Yield each change of a resource of this kind, without end: first each resource there is, then each that is
        created, changed, or deleted. Several changes that come fast are one.

        Args:
            since: version of a ``Page`` or of a change: yield what has changed since, in place of each resource.
            selector: see ``list``. A resource that is not selected any more counts as deleted.

        Raises:
            Refused: ``expired``, where the coordinator does not remember ``since``.
        """
        async with self._client.bus.subscribe(STATUS.filter(resource=self._plural)) as hints:
            async for change in follow(self, hints, selector, since):
                yield change

    async def changed_since(self, version: str, *, selector: str = "") -> Document:
        """Return the answer of one ``watch`` request: ``result``, ``gone``, ``version`` and ``more``."""
        return await self._client.answer(self._plural, "watch", _given(since=version, selector=selector))

    async def _change(self, verb: str, name: str, resource_version: str, dry_run: bool) -> Document:
        body = _given(name=name, resource_version=resource_version, dry_run=dry_run)
        found: Document = await self._ask(verb, body)
        return found

    async def _ask(self, verb: str, document: Document) -> Any:
        return await self._client.request(self._plural, verb, document)


class ModelResources(Resources, ModelVerbs):
    """The requests about models: those of every kind, and those about versions and aliases."""


class DatasetResources(Resources):
    """The requests about data sets: those of every kind, and the versions."""

    async def versions(self, name: str) -> Document:
        """Return the versions of a data set, oldest first, and which edge has which."""
        found: Document = await self._ask("versions", {"name": name})
        return found


class Jobs(Resources):
    """The requests about jobs."""

    async def dataset(self, name: str) -> Document:
        """Return the data that a job trains on and is evaluated on, edge by edge."""
        return await self._whole("dataset", name)

    async def models(self, name: str) -> Document:
        """Return the models that a job has made, and the one that it trains now."""
        found: Document = await self.ask("models", name)
        return found

    async def training(self, name: str) -> Document:
        """Return how a job's training goes, round by round and edge by edge."""
        return await self._whole("training", name)

    async def evaluation(self, name: str) -> Document:
        """Return what a job's models score on held-out data."""
        found: Document = await self.ask("evaluation", name)
        return found

    async def deployment(self, name: str) -> Document:
        """Return where the result of a job is to run."""
        found: Document = await self.ask("deployment", name)
        return found

    async def _whole(self, verb: str, name: str) -> Document:
        """Return an answer with the edges of all its pages."""
        found: Document = await self.ask(verb, name)
        while (after := found.pop("continue", None)) is not None:
            page = await self.ask(verb, name, **{"continue": after})
            found["edges"] += page["edges"]
            found |= {"continue": page["continue"]} if "continue" in page else {}
        return found


class IncrementalJobs(Resources):
    """The requests about incremental learning jobs: their steps by hand, and what they have made."""

    async def training(self, name: str, *, dry_run: bool = False) -> Document:
        """Begin a round now, in place of its trigger."""
        return await self._change("training", name, "", dry_run)

    async def evaluation(self, name: str, *, dry_run: bool = False) -> Document:
        """Evaluate the candidates now, in place of the trigger."""
        return await self._change("evaluation", name, "", dry_run)

    async def deployment(self, name: str, *, dry_run: bool = False) -> Document:
        """Deploy the candidates that have passed now, in place of the trigger."""
        return await self._change("deployment", name, "", dry_run)

    async def models(self, name: str) -> Document:
        """Return what the rounds of a job have made, and what serves."""
        found: Document = await self.ask("models", name)
        return found


class PairJobs(Resources):
    """The requests about pair training jobs."""

    async def models(self, name: str) -> Document:
        """Return the two models that a job has trained, and what was measured of them."""
        found: Document = await self.ask("models", name)
        return found


BY_PLURAL: dict[str, type[Resources]] = {
    "jobs": Jobs, "incremental-jobs": IncrementalJobs, "pair-jobs": PairJobs, "models": ModelResources,
    "datasets": DatasetResources,
}  # fmt: skip
"""The kinds with requests of their own."""


def _given(**fields: Any) -> Document:
    """Return the fields that say something."""
    return {name: value for name, value in fields.items() if value}


def _version_of(document: Document) -> str:
    return str(document.get("metadata", {}).get("resourceVersion", ""))


def _trial(document: Mapping[str, Any]) -> Document:
    return {**document, "dry_run": True}
