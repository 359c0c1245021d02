"""Watches: changes after a version, as lines of JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.kubernetes.api_server.failure import bad_request, expired
from tests.kubernetes.api_server.kinds import Served
from tests.kubernetes.api_server.registry import Registry
from tests.kubernetes.api_server.store import Change

Object = dict[str, Any]


async def watch(
    registry: Registry, kind: Served, namespace: str, selected: Callable[[Object], bool], version: str,
    seconds: float, bookmark_seconds: float | None, initial: bool = False,
) -> AsyncIterator[bytes]:  # fmt: skip
    """Yield lines until the time is over, or until the kind is served no more.

    Args:
        version: changes after it are told; empty or "0" begins with all objects as they are.
        bookmark_seconds: time between bookmarks; None for none.
        initial: begin with all objects as they are, and mark where these end, as kubectl asks for.
    """
    store, now = registry.store, asyncio.get_running_loop().time
    if initial or version in ("", "0"):
        for each in store.all(kind.resource, namespace):
            if selected(each):
                yield _line("ADDED", each)
        seen = store.version
        if initial:
            yield _bookmark(kind, seen, {"k8s.io/initial-events-end": "true"})
    elif version.isdecimal():
        seen = int(version)
    else:
        raise bad_request(f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: invalid syntax')
    ends = now() + seconds
    marked = now()
    while True:
        if seen < store.forgotten:
            yield _line("ERROR", expired(f"too old resource version: {seen} ({store.version})").status)
            return
        present = store.version
        for change in store.since(seen, kind.resource):
            if (line := _told(change, namespace, selected)) is not None:
                yield line
        seen = present
        if not registry.serves(kind):
            return
        left = ends - now()
        due = marked + bookmark_seconds if bookmark_seconds is not None else ends
        if left <= 0 or due <= now():
            marked = now()
            if bookmark_seconds is not None:
                yield _bookmark(kind, seen, {})
        if left <= 0:
            return
        if store.version == seen:
            await store.wait(kind.resource, max(0.0, min(left, due - now())))


def _told(change: Change, namespace: str, selected: Callable[[Object], bool]) -> bytes | None:
    """Return a change as those who selected some objects see it; None where it is none of theirs."""
    if namespace and change.object["metadata"].get("namespace") != namespace:
        return None
    was = change.before is not None and selected(change.before)
    if change.type == "DELETED":
        return _line("DELETED", change.object) if was else None
    if not selected(change.object):
        if not was or change.before is None:
            return None
        metadata = {**change.before["metadata"], "resourceVersion": change.object["metadata"]["resourceVersion"]}
        return _line("DELETED", {**change.before, "metadata": metadata})
    return _line("MODIFIED" if was else "ADDED", change.object)


def _bookmark(kind: Served, version: int, annotations: dict[str, str]) -> bytes:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None, "annotations": annotations}
    return _line("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})


def _line(type: str, given: Object) -> bytes:
    return json.dumps({"type": type, "object": given}, separators=(",", ":")).encode() + b"\n"
