"""What an API server refuses, told apart by what its caller does next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.core import errors
from heliograph.core.errors import HeliographError, Unreachable, shorten
from heliograph.core.text import encodable

MAX_CAUSES = 8
"""Causes of one refusal that its message names."""


class KubernetesError(HeliographError):
    """An API server has refused a request."""


class NotFound(KubernetesError):
    """There is no such object (404)."""


class NotServed(NotFound):
    """The API server does not serve the kind: its definition is missing, or is being removed."""


class Ending(NotFound):
    """What the object would lie in is being removed: its namespace, or the definition of its kind (403)."""


class Exists(KubernetesError):
    """Another object has the name (409, AlreadyExists)."""


class Stale(KubernetesError):
    """The object has another version, or another uid, than the request names (409, Conflict). Read it again."""


class Expired(KubernetesError):
    """The server does not remember what changed since a version (410). List again."""


class Invalid(KubernetesError):
    """The object is not valid (400, 413, 422).

    Attributes:
        causes: field and message of each.
    """

    def __init__(self, message: str, causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.causes = causes


class Forbidden(KubernetesError, errors.Forbidden):
    """The service account lacks a right, or a quota or a policy stands against it (403). Somebody may change it."""


class Unauthorized(KubernetesError, Unreachable):
    """The API server does not accept the login (401). A later one may be accepted."""


class Busy(Unreachable):
    """The API server has too much to do (429, 503).

    Attributes:
        retry_after: seconds that it asks to wait for.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Asked:
    """What was asked of an API server, for messages.

    Attributes:
        verb: as Roles have it: ``get``, ``list``, ``patch``.
        resource: as Roles have it, with the subresource: ``jobs.batch``, ``federatedtasks.edgeai.io/status``.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {self.resource}{name}" + (f" in namespace {self.namespace}" if self.namespace else "")


def error_of(asked: Asked, status: int, body: bytes, retry_after: str = "") -> HeliographError:
    """Return the error of an answer that is none of success.

    Args:
        body: a ``Status`` in JSON, or a plain text.
        retry_after: the header of that name.
    """
    return error_of_status(asked, status, _status_in(body), retry_after)


def error_of_status(asked: Asked, code: int, status: Mapping[str, Any], retry_after: str = "") -> HeliographError:
    """Return the error that a ``Status`` object describes; an empty one stands for an answer in plain text."""
    reason, details = status.get("reason"), status.get("details")
    details = details if isinstance(details, dict) else {}
    said = encodable(shorten(str(status.get("message") or "no reason given"), 500))
    match code:
        case 401:
            return Unauthorized(f"{asked}: the API server does not accept this login; renew the service account's token"
                                " or the kubeconfig")  # fmt: skip
        case 403 if _is_ending(said, details):
            return Ending(f"{asked}: what it would lie in is being removed ({said}); wait until it is gone, and create"
                          " it again")  # fmt: skip
        case 403 if reason and f" cannot {asked.verb} resource " not in said:
            return Forbidden(f"{asked}: forbidden ({said})")  # by a quota or a policy: no further right would help
        case 403:
            where = f"namespace {asked.namespace}" if asked.namespace else "all namespaces"
            return Forbidden(f"{asked}: forbidden ({said}); the Role of this service account needs the verb"
                             f" {asked.verb!r} on {asked.resource!r} in {where}")  # fmt: skip
        case 404 if details.get("name"):
            return NotFound(f"{asked}: not found ({said})")
        case 404:
            return NotServed(f"{asked}: the API server does not serve {asked.resource}; apply its definition, for"
                             " example: kubectl apply --server-side -f deploy/crds")  # fmt: skip
        case 409 if reason == "AlreadyExists":
            return Exists(f"{asked}: another object has this name; get it, or choose another name")
        case 409:
            return Stale(f"{asked}: the object has changed ({said}); get it again, and decide on what it says now")
        case 410:
            return Expired(f"{asked}: the API server does not remember that version ({said}); list again")
        case 400 | 413 | 422:
            causes = tuple(_causes(details))
            shown = "; ".join(f"{field or 'the object'}: {message}" for field, message in causes[:MAX_CAUSES])
            more = f"; and {len(causes) - MAX_CAUSES} more" if len(causes) > MAX_CAUSES else ""
            return Invalid(f"{asked}: not valid: {shown + more or said}", causes)
    seconds = _seconds(retry_after or details.get("retryAfterSeconds"))
    if code == 429 or (code == 503 and seconds is not None):
        return Busy(f"{asked}: the API server has too much to do ({code})", 1.0 if seconds is None else seconds)
    if code >= 500:
        return Unreachable(f"{asked}: the API server cannot answer ({code}: {said})")
    return KubernetesError(f"{asked}: the API server refuses with status {code} ({said})")


def _is_ending(said: str, details: Mapping[str, Any]) -> bool:
    """Return whether a refusal says that the object's namespace, or its kind, is being removed."""
    given = details.get("causes")
    reasons = [each.get("reason") for each in (given if isinstance(given, list) else []) if isinstance(each, dict)]
    return "NamespaceTerminating" in reasons or "custom resource definition is terminating" in said


def _status_in(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _causes(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = details.get("causes")
    return [
        (encodable(shorten(str(each.get("field") or ""), 200)), encodable(shorten(str(each.get("message") or ""), 300)))
        for each in (given if isinstance(given, list) else []) if isinstance(each, dict)
    ]  # fmt: skip


def _seconds(text: object) -> float | None:
    """Return seconds of a header ``Retry-After``, 60 at most. A date counts as none."""
    try:
        return max(0.0, min(float(str(text)), 60.0))  # in this order, since no number is less than "nan"
    except ValueError:
        return None
