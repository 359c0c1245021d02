"""Refusals of the API server, in the words of Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Object = dict[str, Any]


class Cause(NamedTuple):
    """One cause of a refusal: ``FieldValueInvalid``, its message, and the path of the field."""

    reason: str
    message: str
    field: str


class Failure(Exception):
    """A refusal, as a ``Status`` object says it."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    @property
    def status(self) -> Object:
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self),
                "reason": self.reason, "details": self.details, "code": self.code}  # fmt: skip


class PlainNotFound(Exception):
    """The path leads nowhere: 404 in plain text."""


def not_found(group: str, plural: str, name: str) -> Failure:
    details = {"name": name, "group": group, "kind": plural}
    return Failure(404, "NotFound", f'{_resource(group, plural)} "{name}" not found', _some(details))


def exists(group: str, plural: str, name: str) -> Failure:
    details = {"name": name, "group": group, "kind": plural}
    return Failure(409, "AlreadyExists", f'{_resource(group, plural)} "{name}" already exists', _some(details))


def conflict(group: str, plural: str, name: str, why: str) -> Failure:
    details = {"name": name, "group": group, "kind": plural}
    message = f'Operation cannot be fulfilled on {_resource(group, plural)} "{name}": {why}'
    return Failure(409, "Conflict", message, _some(details))


def forbidden(group: str, plural: str, name: str, why: str, causes: Sequence[Cause] = ()) -> Failure:
    details = {"name": name, "group": group, "kind": plural, "causes": [each._asdict() for each in causes]}
    named = f' "{name}"' if name else ""
    return Failure(403, "Forbidden", f"{_resource(group, plural)}{named} is forbidden: {why}", _some(details))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Failure:
    details = {"name": name, "group": group, "kind": kind, "causes": [each._asdict() for each in causes]}
    texts = [f"{each.field}: {each.message}" for each in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return Failure(422, "Invalid", f'{_resource(group, kind)} "{name}" is invalid: {text}', _some(details))


def bad_request(message: str) -> Failure:
    return Failure(400, "BadRequest", message)


def not_allowed() -> Failure:
    return Failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def expired(message: str) -> Failure:
    return Failure(410, "Expired", message)


def _resource(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def _some(details: Object) -> Object:
    return {key: value for key, value in details.items() if value}
