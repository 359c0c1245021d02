"""Requests to the coordinator: the verbs of each resource, idempotent by name and document.

A changing request with a top-level ``dry_run: true`` is checked and answered, and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract.features import STANDARD, WRITES, Verb
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.request_bodies import Change
from heliograph.bus.contract.resources import Resource, dump, refusal_of
from heliograph.coordinator.api.listing import Listing
from heliograph.coordinator.api.precondition import check_absent, check_update
from heliograph.coordinator.api.request import Answer, Request
from heliograph.coordinator.api.status_board import public_document, public_json
from heliograph.coordinator.authorization.managed import require_unmanaged
from heliograph.coordinator.authorization.named import check_named
from heliograph.coordinator.authorization.rights import Rights, is_open, require_verb, require_write
from heliograph.coordinator.feature import InstalledFeatures
from heliograph.coordinator.quotas import Quotas
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.document_bounds import check_shape
from heliograph.core.errors import Conflict, Refused
from heliograph.core.world import World

R = TypeVar("R", bound=Resource)
MOST_FIELDS = 1024
"""Keys of one mapping of a document: far more than any resource has, and few enough to name each wrong one."""
UNNAMED = "unknown"
"""The creator of resources whose request named no reply address."""
_BESIDE = ("dry_run", "resource_version")
"""Fields that a request may have beside the document of a resource."""


class Requests:
    """Handles requests on the resource store.

    Args:
        lock: returns the lock of the resource of that plural and name.
        changed, removed: awaited after a resource was written or deleted.
        epoch: number of this coordinator's term.
        managing: returns whether a custom resource owns a resource at present, as far as an operator sees.
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
        epoch: int,
        managing: Callable[[Resource], bool] = lambda resource: False,
    ) -> None:
        self._listing = Listing(store, world, epoch)
        self._store = store
        self._features = features
        self._lock = lock
        self._changed = changed
        self._removed = removed
        self._world = world
        self._quotas = quotas
        self._managing = managing

    async def handle(self, request: Request) -> Any:
        """Return the result of a request, ready for JSON, or an ``Answer``. Raise Refused."""
        declaration, topic = declared().features[request.resource], request.topic
        if request.verb in WRITES:
            dry_run = _pop_dry_run(request.document, topic)
            wanted = await self._read(request)
            check_named(wanted, self._store, request.rights, topic)
            if request.verb == "create":
                require_write(request.rights, "create", wanted, None, topic)
                return await self._create(wanted, topic, dry_run, request.caller or UNNAMED)
            return await self._update(wanted, topic, dry_run, request.rights)
        verb = declaration.verb(request.verb)
        read = partial(_parse_body, request.document, topic, verb)
        body: Any = await self._world.in_thread(read) if request.heavy else read()
        request.read()
        rights = request.rights
        found = self._find(declaration.kind, body.name, topic, rights, verb) if verb.named else None
        require_verb(rights, verb, found, topic)
        if verb.name == "list":
            return await self._listing.list(declaration.kind, body, request)
        if verb.name == "watch":
            return await self._listing.watch(declaration.kind, body, request)
        if verb.name in declaration.own_verbs:
            return _told(await self._features.of(declaration.plural).answer(verb.name, body, found, request.caller))
        assert found is not None
        if verb.name == "delete":
            found = await self._delete(found, body, topic, rights)
        elif verb.name == "status":
            return public_document(found).get("status", {})
        elif verb.name != "get":
            found = await self._steer(found, verb, body, topic, rights)
        return Answer(public_json(found))

    async def _create(self, wanted: Resource, topic: str, dry_run: bool, caller: str) -> Any:
        known = self._store.get(type(wanted), wanted.name)
        if known is None:
            check_absent(wanted, topic)
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

    async def _update(self, wanted: Resource, topic: str, dry_run: bool, rights: Rights) -> Any:
        # without the lock: an unknown name leaves none behind
        known = self._find(type(wanted), wanted.name, topic, rights)
        async with self._lock(known.plural, known.name):
            known = self._find(type(known), known.name, topic, rights)
            require_write(rights, "update", wanted, known, topic)
            require_unmanaged(known, rights, topic, self._managing(known))
            if _owner_part(known) == _owner_part(wanted):
                return public_document(known)
            check_update(known, wanted, topic)
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

    async def _delete(self, found: Resource, body: Change, topic: str, rights: Rights) -> Resource:
        async with self._lock(found.plural, found.name):
            found = self._find(type(found), found.name, topic, rights)
            require_verb(rights, STANDARD["delete"], found, topic)  # another may have taken its name
            require_unmanaged(found, rights, topic, self._managing(found), deleting=True)
            body.check(found)
            for feature in self._features:
                feature.may_delete(found, topic)
            if body.dry_run:
                return found
            await self._store.delete(found)
        await self._removed(found)
        return found

    async def _steer(self, found: Resource, verb: Verb, body: Change, topic: str, rights: Rights) -> Resource:
        """Apply a verb that changes the resource alone, such as stop or start. One that changes nothing is no conflict:
        it may be the same request again."""
        async with self._lock(found.plural, found.name):
            found = self._find(type(found), found.name, topic, rights)
            require_verb(rights, verb, found, topic)
            feature = self._features.of(found.plural)
            steered: Resource = feature.steer(found, verb.name, topic)
            if steered is not found:
                body.check(found)
            if body.dry_run:
                return steered
            await feature.steering(found, steered)
            more_workers = steered.listed_workers > found.listed_workers
            creator = found.metadata.created_by
            allow = partial(self._quotas.check, creator) if creator and more_workers else None
            steered = await self._store.put(steered, allow)
        await self._changed(steered)
        return self._store.get(type(steered), steered.name) or steered

    async def _read(self, request: Request) -> Resource:
        """Return the document without a status: the coordinator owns it. Raise Refused where the feature does."""
        read = partial(_parse, request.document, request.topic, request.resource)
        wanted = await self._world.in_thread(read) if request.heavy else read()
        request.read()
        self._features.of(wanted.plural).validate(wanted, request.topic)
        return wanted

    def _find(self, kind: type[R], name: str, topic: str, rights: Rights, verb: Verb | None = None) -> R:
        """Return a resource that the caller may see. Raise Refused for others, as if there were none."""
        found = self._store.get(kind, name)
        if found is not None and (rights.sees(found) or is_open(rights, verb)):
            return found
        known = [*islice((each.name for each in self._store.all(kind) if rights.sees(each)), 10)]
        expected = f"one of {', '.join(known)}" if known else f"one of the {kind.plural}, of which there are none"
        raise Refused("not-found", topic=topic, field="name", expected=expected, got=name)


def _parse(document: Any, topic: str, plural: str) -> Resource:
    """Return the resource of a parsed document, with the status of a new one."""
    if isinstance(document, dict):
        document.pop("status", None)  # reading it could take long, and nobody would read the result
    check_shape(document, topic, MOST_FIELDS)
    return parse_resource(document, topic, plural)


def _parse_body(document: Any, topic: str, verb: Verb) -> BaseModel:
    """Return the body of a request. One about a resource may be the whole document of the resource, too."""
    check_shape(document, topic, MOST_FIELDS)
    if verb.named and isinstance(document, dict) and "name" not in document:
        metadata = document.get("metadata")
        if isinstance(metadata, dict) and "name" in metadata:
            document = {"name": metadata["name"], **{key: document[key] for key in _BESIDE if key in document}}
    try:
        return verb.body.model_validate(document)
    except ValidationError as error:
        raise refusal_of(error, topic) from None


def _told(answer: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Return a feature's answer, ready for JSON."""
    if isinstance(answer, Resource):
        return public_document(answer)
    return dump(answer) if isinstance(answer, BaseModel) else dict(answer)


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
