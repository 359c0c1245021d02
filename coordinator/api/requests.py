"""Requests to the coordinator: the verbs of each resource, idempotent by name and document.

A create or update with a top-level ``dry_run: true`` is checked and answered, and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract.features import FeatureDeclaration, Verb
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.resources import Resource, dump, refusal_of
from heliograph.bus.contract.topics import REPLY
from heliograph.coordinator.api.status_board import public_document
from heliograph.coordinator.feature import InstalledFeatures
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.breaks import Breaks
from heliograph.core.document_bounds import check_shape
from heliograph.core.errors import Conflict, Refused
from heliograph.core.names import LABEL_RULE, is_label
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)
MOST_FIELDS = 1024
"""Keys of one mapping of a document: far more than any resource has, and few enough to name each wrong one."""
UNNAMED = "unknown"
"""The creator of resources whose request named no reply address."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has arrived.

    Attributes:
        document: the parsed body; the handler may change it.
        caller: the caller that its reply address names; empty without one.
        heavy: whether validating the document takes long enough to do it in a thread.
        read: called once the document has been read, so that the next heavy one may be.
        spend: called with bytes that the request costs its caller beside those of request and answer.
    """

    resource: str
    verb: str
    document: Any
    topic: str
    caller: str = ""
    heavy: bool = False
    read: Callable[[], None] = lambda: None
    spend: Callable[[int], None] = lambda size: None


class Requests:
    """Handles requests on the resource store.

    Args:
        lock: returns the lock of the resource of that plural and name.
        changed, removed: awaited after a resource was written or deleted.
    """

    def __init__(
        self,
        store: ResourceStore,
        features: InstalledFeatures,
        lock: Callable[[str, str], asyncio.Lock],
        changed: Callable[[Resource], Awaitable[None]],
        removed: Callable[[Resource], Awaitable[None]],
        world: World,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._features = features
        self._lock = lock
        self._changed = changed
        self._removed = removed
        self._world = world
        self._quotas = quotas

    async def handle(self, request: Request) -> Any:
        """Return the result of a request, ready for JSON. Raise Refused."""
        verb, topic, document = request.verb, request.topic, request.document
        declaration = declared().features[request.resource]
        kind = declaration.kind
        if verb in declaration.own_verbs:
            return await self._answer(declaration, declaration.own_verbs[verb], request)
        if verb in ("create", "update"):
            dry_run = _pop_dry_run(document, topic)
            wanted = await self._read(request)
            if verb == "create":
                return await self._create(wanted, topic, dry_run, request.caller or UNNAMED)
            return await self._update(wanted, topic, dry_run)
        request.read()
        if verb == "list":
            return await self._list(kind, request)
        found = self._find(kind, _name_in(document, topic), topic)
        if verb == "delete":
            found = await self._delete(found, topic)
        elif verb == "status":
            return public_document(found).get("status", {})
        elif verb != "get":
            found = await self._steer(found, verb, topic)
        return public_document(found)

    async def _create(self, wanted: Resource, topic: str, dry_run: bool, caller: str) -> Any:
        known = self._store.get(type(wanted), wanted.name)
        if known is None:
            metadata = wanted.metadata.model_copy(update={"created_by": caller})
            wanted = wanted.model_copy(update={"metadata": metadata})
            if dry_run:
                return public_document(wanted)
            try:
                created: Resource | None = await self._store.create(wanted, partial(self._quotas.check, caller))
            except Conflict:  # stored before, but the answer was lost: the change has not been acted on yet
                created = known = self._store.get(type(wanted), wanted.name)
            if created is not None and _owner_part(created) == _owner_part(wanted):
                await self._changed(created)
                return public_document(self._store.get(type(created), created.name) or created)
        if known is not None and _owner_part(known) == _owner_part(wanted):
            return public_document(known)  # the same request again
        raise Refused(
            "exists", topic=topic, field="metadata.name", expected="a name that is free, or the same document again",
            got=wanted.name, hint=f"Use request/{wanted.plural}/update to change it, or delete it first.",
        )  # fmt: skip

    async def _update(self, wanted: Resource, topic: str, dry_run: bool) -> Any:
        known = self._find(type(wanted), wanted.name, topic)  # without the lock: an unknown name leaves none behind
        async with self._lock(known.plural, known.name):
            known = self._find(type(known), known.name, topic)
            if _owner_part(known) == _owner_part(wanted):
                return public_document(known)
            feature = self._features.of(known.plural)
            feature.may_change(known, wanted, topic)
            metadata = known.metadata.model_copy(
                update={
                    "generation": known.metadata.generation + 1,
                    "labels": wanted.metadata.labels,
                    "annotations": wanted.metadata.annotations,
                }
            )
            changed = known.model_copy(update={"metadata": metadata, "spec": wanted.spec})  # type: ignore[attr-defined]
            changed = feature.changed(known, changed)
            if dry_run:
                return public_document(changed)
            creator = changed.metadata.created_by
            changed = await self._store.put(changed, partial(self._quotas.check, creator) if creator else None)
        await self._changed(changed)
        return public_document(self._store.get(type(changed), changed.name) or changed)

    async def _delete(self, found: Resource, topic: str) -> Resource:
        async with self._lock(found.plural, found.name):
            found = self._find(type(found), found.name, topic)
            for feature in self._features:
                feature.may_delete(found, topic)
            await self._store.delete(found)
        await self._removed(found)
        return found

    async def _steer(self, found: Resource, verb: str, topic: str) -> Resource:
        """Apply a verb of the feature's own, such as stop or start."""
        async with self._lock(found.plural, found.name):
            found = self._find(type(found), found.name, topic)
            feature = self._features.of(found.plural)
            steered = feature.steer(found, verb, topic)
            await feature.steering(found, steered)
            steered = await self._store.put(steered)
        await self._changed(steered)
        return self._store.get(type(steered), steered.name) or steered

    async def _answer(self, declaration: FeatureDeclaration, verb: Verb, request: Request) -> Any:
        """Answer a verb that the feature declares."""
        read = partial(_parse_body, request.document, request.topic, verb.body)
        body: Any = await self._world.in_thread(read) if request.heavy else read()
        request.read()
        found = self._find(declaration.kind, body.name, request.topic) if verb.named else None
        answer = await self._features.of(declaration.plural).answer(verb.name, body, found, request.caller)
        if isinstance(answer, Resource):
            return public_document(answer)
        return dump(answer) if isinstance(answer, BaseModel) else dict(answer)

    async def _list(self, kind: type[Resource], request: Request) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        size, breaks = 0, Breaks(self._world)
        for each in self._store.all(kind):
            await breaks.take()
            document = public_document(each)
            size += len(json.dumps(document))
            if size > REPLY.max_size:
                request.spend(size)  # its answer is short, its work is not
                expected = f"resources of at most {REPLY.max_size} bytes in one answer"
                raise Refused("too-large", topic=request.topic, expected=expected,
                              got=f"{len(found)} {kind.plural} that fit, and more",
                              hint=f"Get them by name, or read the topics status/{kind.plural}/+.")  # fmt: skip
            found.append(document)
        return found

    async def _read(self, request: Request) -> Resource:
        """Return the document without a status: the coordinator owns it. Raise Refused where the feature does."""
        read = partial(_parse, request.document, request.topic, request.resource)
        wanted = await self._world.in_thread(read) if request.heavy else read()
        request.read()
        self._features.of(wanted.plural).validate(wanted, request.topic)
        return wanted

    def _find(self, kind: type[R], name: str, topic: str) -> R:
        found = self._store.get(kind, name)
        if found is not None:
            return found
        known = self._store.names(kind, 10)
        expected = f"one of {', '.join(known)}" if known else f"a name; there are no {kind.plural}"
        raise Refused("not-found", topic=topic, field="name", expected=expected, got=name)


def _parse(document: Any, topic: str, plural: str) -> Resource:
    """Return the resource of a parsed document, with the status of a new one."""
    if isinstance(document, dict):
        document.pop("status", None)  # reading it could take long, and nobody would read the result
    check_shape(document, topic, MOST_FIELDS)
    return parse_resource(document, topic, plural)


def _parse_body(document: Any, topic: str, body: type[BaseModel]) -> BaseModel:
    check_shape(document, topic, MOST_FIELDS)
    try:
        return body.model_validate(document)
    except ValidationError as error:
        raise refusal_of(error, topic) from None


def _name_in(document: Any, topic: str) -> str:
    name = document.get("name") if isinstance(document, dict) else None
    if isinstance(document, dict) and name is None and isinstance(document.get("metadata"), dict):
        name = document["metadata"].get("name")
    if not is_label(name):
        raise Refused("invalid", topic=topic, field="name", expected=LABEL_RULE, got=name)
    return str(name)


def _pop_dry_run(document: Any, topic: str) -> bool:
    """Remove ``dry_run`` from the document, and return it."""
    dry_run = document.pop("dry_run", False) if isinstance(document, dict) else False
    if not isinstance(dry_run, bool):
        raise Refused("invalid", topic=topic, field="dry_run", expected="true or false", got=dry_run)
    return dry_run


def _owner_part(resource: Resource) -> Any:
    """Return the part of a resource that its owner writes."""
    metadata = resource.metadata
    return resource.spec, metadata.labels, metadata.annotations  # type: ignore[attr-defined]
