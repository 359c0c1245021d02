"""The API of Kubernetes by ``kubernetes.aio``: its login, its TLS and its requests, and plain objects.

The library's typed models are left out. They know no custom resource, and making them costs more than the request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from heliograph.coordinator.kubernetes.api import (
    WATCH_SECONDS,
    Change,
    Kind,
    Object,
    Objects,
    Propagation,
)
from heliograph.coordinator.kubernetes.bounded_reading import TooLarge, lines_of, read_all
from heliograph.coordinator.kubernetes.errors import (
    Asked,
    Busy,
    Expired,
    Unauthorized,
    error_of,
    error_of_status,
)
from heliograph.coordinator.kubernetes.paths import path_of, query_of
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.coordinator.kubernetes.connection import Connection

PAGE = 500
"""Objects of one page of a list; a tenth of that after a page that is too large to be read."""
REQUEST_SECONDS = 30.0
SILENCE_AFTER_WATCH = 15.0
"""Seconds after the time at which the server is to end a watch, until the connection counts as dead."""
ATTEMPTS = 3
"""Times that a request is sent while the server is busy, or a list while its pages expire."""
_JSON, _MERGE = "application/json", "application/merge-patch+json"
_TYPES = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}


class KubernetesClient:
    """Implements ``Api``."""

    def __init__(self, connection: Connection, world: World) -> None:
        self._connection = connection
        self._world = world

    @classmethod
    async def connect(cls, world: World) -> KubernetesClient:
        """Return a client for the API server of the environment: ``KUBECONFIG``, or the pod's service account.

        Nothing is sent yet. Raise Refused where the environment names none, or where the library is missing.
        """
        try:
            from heliograph.coordinator.kubernetes.connection import Connection
        except ImportError as error:
            hint = "Run: pip install 'heliograph[kubernetes]'"
            raise Refused("invalid", field="--kubernetes", expected="the packages of heliograph[kubernetes]",
                          got=f"no module {error.name}", hint=hint) from None  # fmt: skip
        return cls(await Connection.open(), world)

    async def list(self, kind: Kind, namespace: str = "", labels: str = "") -> tuple[Objects, str]:
        for attempt in range(ATTEMPTS):
            try:
                return await self._pages(kind, namespace, labels)
            except Expired:  # the next page is of a version that the server has forgotten meanwhile
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    async def watch(
        self, kind: Kind, version: str, namespace: str = "", labels: str = "", seconds: int = WATCH_SECONDS
    ) -> AsyncGenerator[Change, None]:
        asked = Asked("watch", kind.resource, namespace)
        query = query_of({"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
                          "labelSelector": labels, "timeoutSeconds": seconds})  # fmt: skip
        async with self._connection.request(
            "GET", path_of(kind, namespace) + query, None, _JSON, None, seconds + SILENCE_AFTER_WATCH
        ) as response:
            if response.status != 200:
                raise await self._error(asked, response.status, await read_all(response.content), response.headers)
            async for line in lines_of(response.content):
                yield self._change(asked, line)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._send("get", "GET", kind, namespace, name)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._send("create", "POST", kind, namespace, "", body, named=_name(body))

    async def replace(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._send("update", "PUT", kind, namespace, _name(body), body)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        return await self._send("patch", "PATCH", kind, namespace, name, patch)

    async def replace_status(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._send("update", "PUT", kind, namespace, _name(body), body, "status")

    async def patch_status(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        return await self._send("patch", "PATCH", kind, namespace, name, patch, "status")

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", propagation: Propagation = "Background"
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._send("delete", "DELETE", kind, namespace, name, options)

    async def close(self) -> None:
        await self._connection.close()

    async def _pages(self, kind: Kind, namespace: str, labels: str) -> tuple[Objects, str]:
        asked, path = Asked("list", kind.resource, namespace), path_of(kind, namespace)
        found: Objects = []
        page, limit = "", PAGE
        while True:
            query = query_of({"limit": limit, "continue": page, "labelSelector": labels})
            try:
                answer = await self._answer(asked, "GET", path + query, None, _JSON)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 10)
                continue
            items, metadata = answer.get("items") or [], answer.get("metadata") or {}
            for item in items:  # those of a list lack both
                found.append({"apiVersion": kind.api_version, "kind": kind.kind, **item})
            page = metadata.get("continue") or ""
            if not page:
                return found, str(metadata.get("resourceVersion") or "")

    async def _send(
        self, verb: str, method: str, kind: Kind, namespace: str, name: str, body: Object | None = None,
        subresource: str = "", named: str = "",
    ) -> Object:  # fmt: skip
        resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
        if method != "POST" and not name:
            raise Refused("invalid", topic="kubernetes", field="metadata.name", expected="a name", got="none")
        asked = Asked(verb, resource, namespace, name or named)
        path = path_of(kind, namespace, name, subresource)
        return await self._answer(asked, method, path, body, _MERGE if method == "PATCH" else _JSON)

    async def _answer(self, asked: Asked, method: str, path: str, body: Object | None, content_type: str) -> Object:
        """Send a request until the server is not too busy for it, and return the object of the answer."""
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._once(asked, method, path, body, content_type)
            except Busy as error:  # it has done nothing
                await self._world.sleep(error.retry_after * (1 + self._world.rng.random() / 2))
        return await self._once(asked, method, path, body, content_type)

    async def _once(self, asked: Asked, method: str, path: str, body: Object | None, content_type: str) -> Object:
        try:
            async with self._connection.request(
                method, path, body, content_type, REQUEST_SECONDS, REQUEST_SECONDS
            ) as response:
                given = await read_all(response.content)
                if not 200 <= response.status < 300:
                    raise await self._error(asked, response.status, given, response.headers)
        except TooLarge as error:
            raise TooLarge(f"{asked}: {error}") from None
        return _object(asked, given)

    async def _error(self, asked: Asked, status: int, body: bytes, headers: Any) -> HeliographError:
        error = error_of(asked, status, body, headers.get("Retry-After", ""))
        if isinstance(error, Unauthorized):
            await self._connection.renew_login()
        return error

    def _change(self, asked: Asked, line: bytes) -> Change:
        event = _object(asked, line)
        given = event.get("object")
        if not isinstance(given, dict):
            raise Unreachable(f"{asked}: expected a change with an object, got {line[:80]!r}")
        if event.get("type") == "ERROR":  # of a stream whose status 200 was sent long ago
            raise error_of_status(asked, int(given.get("code") or 500), given)
        if event.get("type") not in _TYPES:
            raise Unreachable(f"{asked}: expected one of {sorted(_TYPES)}, got {str(event.get('type'))[:80]}")
        return Change(event["type"], given)


def _object(asked: Asked, text: bytes) -> Object:
    """Return the object of a JSON text. Raise Unreachable: whatever stands before the API server has answered."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unreachable(f"{asked}: expected JSON of an API server, got {text[:80]!r}; see who answers at its address")
    return found


def _name(body: Object) -> str:
    metadata = body.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""

