"""Creates, changes and deletes objects by the rules that hold for all kinds."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.api_server import schemas
from tests.kubernetes.api_server.failure import (
    Cause,
    PlainNotFound,
    bad_request,
    conflict,
    exists,
    forbidden,
    invalid,
    not_found,
)
from tests.kubernetes.api_server.kinds import (
    BUILT_IN,
    DEFINITIONS,
    EVENTS,
    JOBS,
    NAMESPACES,
    PODS,
    Served,
    of_definition,
)
from tests.kubernetes.api_server.pod_checks import without_empty, wrong_mounts
from tests.kubernetes.api_server.store import Store

Object = dict[str, Any]
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer of a definition whose custom resources are deleted first."""
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink",
        "generateName")  # fmt: skip
"""Metadata that no update changes."""
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class Registry:
    """The objects of a server, and the kinds that it serves."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.on_deleted: Callable[[], None] = lambda: None
        """Called when something was deleted, or is to be."""
        self.has_dependents = False
        """Whether any object has ever named an owner, or is deleted with regard to those that do."""
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in BUILT_IN}
        self._names = itertools.count(1)

    @property
    def kinds(self) -> list[Served]:
        return list(self._kinds.values())

    def kind(self, group: str, version: str, plural: str) -> Served:
        """Return a kind. Raise PlainNotFound if it is not served."""
        if (found := self._kinds.get((group, version, plural))) is None:
            raise PlainNotFound
        return found

    def serves(self, kind: Served) -> bool:
        return (kind.group, kind.version, kind.plural) in self._kinds

    def get(self, kind: Served, namespace: str, name: str) -> Object:
        if (found := self.store.get(kind.resource, (namespace, name))) is None:
            raise not_found(kind.group, kind.plural, name)
        return found

    def create(self, kind: Served, namespace: str, given: Object, manager: str, strict: bool = False) -> Object:
        metadata = self._metadata(given)
        if namespace and metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        self._check_type(kind, given)
        if self.deleting_definition(kind):
            raise forbidden(kind.group, kind.plural, metadata.get("name") or "",
                            "create not allowed while custom resource definition is terminating")  # fmt: skip
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{next(self._names):05d}"
        name = metadata.get("name") or ""
        wrong = self._wrong_metadata(metadata)
        if kind is EVENTS and given.get("involvedObject", {}).get("namespace", "") != namespace:
            wrong.append(Cause("FieldValueInvalid", "Invalid value: does not match event.namespace",
                               "involvedObject.namespace"))  # fmt: skip
        if kind is PODS:
            wrong.extend(wrong_mounts(given.get("spec", {}), "spec"))
        if kind is JOBS:
            wrong.extend(wrong_mounts(given.get("spec", {}).get("template", {}).get("spec", {}), "spec.template.spec"))
        if wrong:
            raise invalid(kind.group, kind.kind, name, wrong)
        if namespace:
            self._check_namespace(namespace, kind, name)
        if self.store.get(kind.resource, (namespace, name)) is not None:
            raise exists(kind.group, kind.plural, name)
        for field in ("uid", "resourceVersion", "deletionTimestamp", "selfLink", "managedFields", "generation"):
            metadata.pop(field, None)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now(), managedFields=_managed(kind, manager))
        if kind.schema is not None or kind in (JOBS, DEFINITIONS):
            metadata["generation"] = 1
        given = self._checked(kind, given, name, strict)
        if kind.status:
            given.pop("status", None)
            given |= self._first_status(kind, given)
        stored = self.store.put(kind.resource, (namespace, name), given)
        if kind is DEFINITIONS:
            self._serve(stored)
        if metadata.get("ownerReferences"):
            self.has_dependents = True
            self.on_deleted()  # an owner may be gone already
        return stored

    def update(
        self, kind: Served, namespace: str, name: str, given: Object, manager: str, subresource: str = "",
        strict: bool = False, patched: bool = False,
    ) -> Object:  # fmt: skip
        """Replace an object, or its status alone. What is not changed by it gets no new version."""
        before = self.get(kind, namespace, name)
        metadata, old = self._metadata(given), before["metadata"]
        if metadata.get("name", name) != name:
            raise bad_request(f"the name of the object ({metadata['name']}) does not match that of the URL ({name})")
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        self._check_type(kind, given)
        if metadata.get("uid", old["uid"]) != old["uid"]:
            raise conflict(kind.group, kind.plural, name, "Precondition failed: UID in precondition:"
                           f" {metadata['uid']}, UID in object meta: {old['uid']}")  # fmt: skip
        version = metadata.get("resourceVersion")
        if not version and not patched and not kind.unconditional:
            missing = "Invalid value: 0: must be specified for an update"
            cause = Cause("FieldValueInvalid", missing, "metadata.resourceVersion")
            raise invalid(kind.group, kind.kind, name, [cause])
        if version and version != old["resourceVersion"]:
            raise conflict(kind.group, kind.plural, name, MODIFIED)
        if subresource:
            after = {**before, "status": given.get("status", {})} if "status" in given else _without_status(before)
        else:
            after = {**given, "metadata": {**metadata, **{key: old[key] for key in KEPT if key in old}}}
            for key in KEPT:
                if key not in old:
                    after["metadata"].pop(key, None)
            if kind.status:
                after = _without_status(after)
                if "status" in before:
                    after["status"] = before["status"]
            self._check_change(kind, name, before, after)
        after = self._checked(kind, after, name, strict)
        if not subresource and _spec(after) != _spec(before) and "generation" in old:
            after["metadata"]["generation"] = old["generation"] + 1
        if _essence(after) == _essence(before):
            return before
        after["metadata"] = {**after["metadata"], "managedFields": _managed(kind, manager)}
        if old.get("deletionTimestamp") and not after["metadata"].get("finalizers"):
            self.store.put(kind.resource, (namespace, name), after)
            return self._removed(kind.resource, (namespace, name))
        stored = self.store.put(kind.resource, (namespace, name), after)
        if after["metadata"].get("ownerReferences"):
            self.has_dependents = True
        if kind is DEFINITIONS:
            self._serve(stored)
        return stored

    def delete(self, kind: Served, namespace: str, name: str, options: Object) -> tuple[Object, bool]:
        """Delete an object, or mark it as one to be deleted. Return it, and whether it is gone."""
        before = self.get(kind, namespace, name)
        metadata = before["metadata"]
        for field, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = options.get("preconditions", {}).get(field)
            if wanted and wanted != metadata[field]:
                raise conflict(kind.group, kind.plural, name, f"Precondition failed: {word} in precondition: {wanted},"
                               f" {word} in object meta: {metadata[field]}")  # fmt: skip
        finalizers = list(metadata.get("finalizers") or [])
        more = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.get("propagationPolicy", ""))
        if kind is NAMESPACES:
            more = "kubernetes"
        if more and more not in finalizers:
            finalizers.append(more)
            self.has_dependents = True
        if not finalizers:
            return self._removed(kind.resource, (namespace, name)), True
        if metadata.get("deletionTimestamp"):
            return before, False
        marked = {**before, "metadata": {**metadata, "deletionTimestamp": now(), "deletionGracePeriodSeconds": 0,
                                         "finalizers": finalizers}}  # fmt: skip
        if "generation" in metadata:
            marked["metadata"]["generation"] = metadata["generation"] + 1
        if kind is NAMESPACES:
            marked["status"] = {"phase": "Terminating"}
        stored = self.store.put(kind.resource, (namespace, name), marked)
        self.on_deleted()
        return stored, False

    def deleting_definition(self, kind: Served) -> bool:
        """Return whether the definition of a kind is being deleted."""
        definition = self.store.get(DEFINITIONS.resource, ("", kind.resource))
        return definition is not None and "deletionTimestamp" in definition["metadata"]

    def forget_definition(self, name: str) -> None:
        """Serve the kinds of a definition no more: it is gone."""
        for key in [key for key, kind in self._kinds.items() if kind.resource == name and kind.schema is not None]:
            del self._kinds[key]
        self.store.wake()

    def of_resource(self, resource: str) -> Served:
        return next(kind for kind in self._kinds.values() if kind.resource == resource)

    def _removed(self, resource: str, key: tuple[str, str]) -> Object:
        gone = self.store.remove(resource, key)
        if resource == DEFINITIONS.resource:
            self.forget_definition(key[1])
        self.on_deleted()
        return gone

    def _checked(self, kind: Served, given: Object, name: str, strict: bool) -> Object:
        """Return a document as it is stored: without unknown fields, with defaults. Raise Failure if it is invalid."""
        if kind in (JOBS, PODS):
            return {**given, "spec": without_empty(given.get("spec", {}))}
        if kind.schema is None:
            return given
        unknown: list[str] = []
        given = schemas.with_defaults(kind.schema, schemas.pruned(kind.schema, given, unknown))
        if strict and unknown:
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(f"strict decoding error: {listed}")
        if wrong := list(schemas.causes(kind.schema, given)):
            raise invalid(kind.group, kind.kind, name, wrong)
        return given

    def _check_change(self, kind: Served, name: str, before: Object, after: Object) -> None:
        old, new = (each["metadata"].get("finalizers") or [] for each in (before, after))
        if before["metadata"].get("deletionTimestamp") and (added := [each for each in new if each not in old]):
            message = f"Forbidden: no new finalizers can be added if the object is being deleted, found {added}"
            raise invalid(kind.group, kind.kind, name, [Cause("FieldValueForbidden", message, "metadata.finalizers")])
        if kind is JOBS and before.get("spec", {}).get("template") != after.get("spec", {}).get("template"):
            cause = Cause("FieldValueInvalid", "Invalid value: field is immutable", "spec.template")
            raise invalid(kind.group, kind.kind, name, [cause])

    def _check_namespace(self, namespace: str, kind: Served, name: str) -> None:
        found = self.get(NAMESPACES, "", namespace)
        if "deletionTimestamp" in found["metadata"]:
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(kind.group, kind.plural, name, why, [cause])

    def _check_type(self, kind: Served, given: Object) -> None:
        got = given.setdefault("apiVersion", kind.api_version), given.setdefault("kind", kind.kind)
        if got != (kind.api_version, kind.kind):
            raise bad_request(f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get"
                              f" version/kind; got {got[0]}, Kind={got[1]}")  # fmt: skip

    @staticmethod
    def _metadata(given: Object) -> Object:
        metadata = given.setdefault("metadata", {})
        if not isinstance(metadata, dict):
            raise bad_request("metadata must be an object")
        return metadata

    @staticmethod
    def _wrong_metadata(metadata: Object) -> list[Cause]:
        name = metadata.get("name")
        if not name:
            return [Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")]
        if not NAME.fullmatch(name) or len(name) > 253:
            message = f"Invalid value: {json.dumps(name)}: a lowercase RFC 1123 subdomain must consist of lower case"
            message += " alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            return [Cause("FieldValueInvalid", message, "metadata.name")]
        return []

    def _first_status(self, kind: Served, given: Object) -> Object:
        if kind is NAMESPACES:
            return {"status": {"phase": "Active"}}
        if kind is not DEFINITIONS:
            return {} if kind.schema is not None else {"status": {}}
        given["metadata"]["finalizers"] = [CLEANUP]
        said = ("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted")
        accepted = [{"type": type, "status": "True", "lastTransitionTime": now(), "reason": reason, "message": ""}
                    for type, reason in said]  # fmt: skip
        stored = [each["name"] for each in given["spec"]["versions"] if each["storage"]]
        return {"status": {"conditions": accepted, "acceptedNames": given["spec"]["names"], "storedVersions": stored}}

    def _serve(self, definition: Object) -> None:
        for kind in of_definition(definition):
            self._kinds[kind.group, kind.version, kind.plural] = kind


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _managed(kind: Served, manager: str) -> list[Object]:
    return [{"manager": manager, "operation": "Update", "apiVersion": kind.api_version, "time": now(),
             "fieldsType": "FieldsV1", "fieldsV1": {}}]  # fmt: skip


def _without_status(given: Object) -> Object:
    return {key: value for key, value in given.items() if key != "status"}


def _spec(given: Object) -> Object:
    """Return what an object's generation counts the changes of."""
    return {key: value for key, value in given.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def _essence(given: Object) -> Object:
    """Return what makes an update a change."""
    metadata = {key: value for key, value in given["metadata"].items()
                if key not in ("managedFields", "resourceVersion") and value not in (None, {}, [])}  # fmt: skip
    return {**given, "metadata": metadata}
