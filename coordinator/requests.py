"""What can be asked of the coordinator: the verbs of each resource, idempotent by name and document.

A create or update with a top-level ``dry_run: true`` is checked and answered as ever, and changes nothing.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from heliograph.bus.errors import Conflict, Refused
from heliograph.bus.names import LABEL_RULE, is_label
from heliograph.bus.resources import ENDED, KINDS, Edge, FederatedTask, Resource, parse_resource
from heliograph.bus.world import World
from heliograph.coordinator import federated
from heliograph.coordinator.status import public
from heliograph.coordinator.store import ResourceStore
from heliograph.coordinator.view import View

R = TypeVar("R", bound=Resource)
_TYPES: dict[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,)}
_BOUNDS: list[tuple[str, str, Callable[[Any, Any], bool]]] = [
    ("minimum", "at least", operator.ge),
    ("exclusiveMinimum", "more than", operator.gt),
    ("maximum", "at most", operator.le),
]
_LIVE_FIELDS = {"rounds", "quorum", "round_deadline_seconds"}
"""What of a running task's spec may change."""


class Requests:
    """Handles requests on the resource store.

    Args:
        lock: held while the resource of that plural and name is read, decided on and written.
        changed, removed: awaited after a resource was written or deleted.
    """

    def __init__(
        self,
        store: ResourceStore,
        world: World,
        view: Callable[[], View],
        lock: Callable[[str, str], asyncio.Lock],
        changed: Callable[[Resource], Awaitable[None]],
        removed: Callable[[Resource], Awaitable[None]],
    ) -> None:
        self._store = store
        self._world = world
        self._view = view
        self._lock = lock
        self._changed = changed
        self._removed = removed

    async def handle(self, resource: str, verb: str, document: Any, topic: str) -> Any:
        """The result of a request, as JSON will carry it. Raises Refused."""
        kinds = [kind for kind in KINDS.values() if kind.plural == resource]
        if verb in ("create", "update"):
            dry_run = _taken_dry_run(document, topic)
            wanted = self._checked(parse_resource(document, topic, resource), topic)
            return await (self._create if verb == "create" else self._update)(wanted, topic, dry_run)
        if verb == "list":
            return [public(each) for kind in kinds for each in self._store.all(kind)]
        found = self._find(kinds, _name_in(document, topic), topic)
        if verb == "delete":
            found = await self._delete(found, topic)
        elif verb == "stop" and isinstance(found, FederatedTask):
            found = await self._stop(found, topic)
        elif verb == "status":
            return public(found).get("status", {})
        return public(found)

    async def _create(self, wanted: Resource, topic: str, dry_run: bool) -> Any:
        known = self._store.get(type(wanted), wanted.name)
        if known is None:
            if dry_run:
                return public(wanted)
            try:
                made: Resource | None = await self._store.create(wanted)
            except Conflict:  # stored before, but its answer was lost: nobody has been told
                made = known = self._store.get(type(wanted), wanted.name)
            if made is not None and _says(made) == _says(wanted):
                await self._changed(made)
                return public(self._store.get(type(made), made.name) or made)
        if known is not None and _says(known) == _says(wanted):
            return public(known)  # the same request again
        raise Refused(
            "exists", topic=topic, field="metadata.name", expected="a name that is free, or the same document again",
            got=wanted.name, hint=f"Use request/{wanted.plural}/update to change it, or delete it first.",
        )  # fmt: skip

    async def _update(self, wanted: Resource, topic: str, dry_run: bool) -> Any:
        known = self._find([type(wanted)], wanted.name, topic)  # no lock for a name that nothing bears
        async with self._lock(known.plural, known.name):
            known = self._find([type(known)], known.name, topic)
            if _says(known) == _says(wanted):
                return public(known)
            if isinstance(known, FederatedTask) and isinstance(wanted, FederatedTask):
                _check_task_change(known, wanted, topic)
            metadata = known.metadata.model_copy(
                update={
                    "generation": known.metadata.generation + 1,
                    "labels": wanted.metadata.labels,
                    "annotations": wanted.metadata.annotations,
                }
            )
            changed = known.model_copy(update={"metadata": metadata, "spec": wanted.spec})  # type: ignore[attr-defined]
            if dry_run:
                return public(changed)
            changed = await self._store.put(changed)
        await self._changed(changed)
        return public(self._store.get(type(changed), changed.name) or changed)

    async def _delete(self, found: Resource, topic: str) -> Resource:
        async with self._lock(found.plural, found.name):
            found = self._find([type(found)], found.name, topic)
            await self._store.delete(found)
        await self._removed(found)
        return found

    async def _stop(self, task: FederatedTask, topic: str) -> FederatedTask:
        async with self._lock(task.plural, task.name):
            task = self._find([FederatedTask], task.name, topic)
            stopped = await self._store.put(federated.stop(task, self._world.timestamp()))
        await self._changed(stopped)
        return stopped

    def _checked(self, wanted: Resource, topic: str) -> Resource:
        """Status is ours, and what nobody can run is refused."""
        if isinstance(wanted, Edge):
            raise Refused("read-only", topic=topic, field="kind", expected="a kind that can be created", got="Edge")
        status = type(wanted).model_fields["status"].get_default(call_default_factory=True)
        wanted = wanted.model_copy(update={"status": status})
        if isinstance(wanted, FederatedTask):
            _check_algorithm(wanted, self._view(), topic)
        return wanted

    def _find(self, kinds: Sequence[type[R]], name: str, topic: str) -> R:
        for kind in kinds:
            found = self._store.get(kind, name)
            if found is not None:
                return found
        known = [each.name for kind in kinds for each in self._store.all(kind)]
        expected = f"one of {', '.join(known[:10])}" if known else f"a name; there are no {kinds[0].plural}"
        raise Refused("not-found", topic=topic, field="name", expected=expected, got=name)


def _name_in(document: Any, topic: str) -> str:
    name = document.get("name") if isinstance(document, dict) else None
    if isinstance(document, dict) and name is None and isinstance(document.get("metadata"), dict):
        name = document["metadata"].get("name")
    if not is_label(name):
        raise Refused("invalid", topic=topic, field="name", expected=LABEL_RULE, got=name)
    return str(name)


def _taken_dry_run(document: Any, topic: str) -> bool:
    """Whether nothing shall change; taken off the document, of which it is no part."""
    dry_run = document.pop("dry_run", False) if isinstance(document, dict) else False
    if not isinstance(dry_run, bool):
        raise Refused("invalid", topic=topic, field="dry_run", expected="true or false", got=dry_run)
    return dry_run


def _says(resource: Resource) -> Any:
    """What its owner says in a resource."""
    metadata = resource.metadata
    return resource.spec, metadata.labels, metadata.annotations  # type: ignore[attr-defined]


def _check_algorithm(task: FederatedTask, view: View, topic: str) -> None:
    """Refuses an algorithm or parameter that no agent offers; while none has reported, the task waits instead."""
    offered = view.algorithms()
    if not offered:
        return
    spec = task.spec.aggregation_worker.worker_spec
    place = "spec.aggregationWorker.workerSpec"
    if spec.aggregation_algorithm not in offered:
        raise Refused("unknown-algorithm", topic=topic, field=f"{place}.aggregationAlgorithm",
                      expected=f"one of {', '.join(sorted(offered))}", got=spec.aggregation_algorithm)  # fmt: skip
    known = offered[spec.aggregation_algorithm].get("properties", {})
    for number, parameter in enumerate(spec.parameters):
        if parameter.key not in known:
            raise Refused("unknown-parameter", topic=topic, field=f"{place}.parameters[{number}].key",
                          expected=f"one of {', '.join(sorted(known))}", got=parameter.key)  # fmt: skip
        _check_value(parameter.value, known[parameter.key], f"{place}.parameters[{number}].value", topic)


def _check_value(value: object, schema: dict[str, Any], field: str, topic: str) -> None:
    """The part of JSON Schema that parameters use: type and bounds."""
    if value is None:
        return
    options: list[dict[str, Any]] = schema.get("anyOf", [schema])
    option: dict[str, Any] = next((each for each in options if each.get("type") != "null"), {})
    right = isinstance(value, _TYPES.get(option.get("type", ""), (object,)))
    if isinstance(value, bool):
        right = option.get("type") in ("boolean", None)
    said = [f"{words} {option[name]}" for name, words, _ in _BOUNDS if name in option]
    if not right or any(name in option and not holds(value, option[name]) for name, _, holds in _BOUNDS):
        raise Refused("invalid", topic=topic, field=field, expected=" ".join([option.get("type", "a value"), *said]),
                      got=value)  # fmt: skip


def _check_task_change(known: FederatedTask, wanted: FederatedTask, topic: str) -> None:
    if known.status.phase == "Pending":
        return
    if known.status.phase in ENDED:
        raise Refused("ended", topic=topic, field="metadata.name", expected="a task that has not ended",
                      got=f"{known.name} is {known.status.phase}", hint="Delete it to run it again.")  # fmt: skip
    fields = type(known.spec).model_fields
    frozen = [
        name for name in fields if name not in _LIVE_FIELDS and getattr(known.spec, name) != getattr(wanted.spec, name)
    ]
    if frozen:
        live = ", ".join(str(fields[name].alias) for name in sorted(_LIVE_FIELDS))
        raise Refused("running", topic=topic, field=f"spec.{fields[frozen[0]].alias}", got="another value",
                      expected=f"no change while it runs (only {live} may)")  # fmt: skip
