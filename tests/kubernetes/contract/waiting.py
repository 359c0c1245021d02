"""Waiting for what an API server does in a while, by watches."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from heliograph.coordinator.kubernetes.api import Api, Kind, Object
from tests.patience import HANGS

FINALIZER = "example.com/contract"


def version_of(given: Object) -> int:
    """Return an object's version. Those of one server are compared only in this suite: clients must not."""
    return int(given["metadata"]["resourceVersion"])


async def changes(api: Api, kind: Kind, version: str, until: str, **how: Any) -> list[tuple[str, str]]:
    """Return types and names of the changes after a version, up to that of the object named ``until``."""
    found = list[tuple[str, str]]()
    async with asyncio.timeout(HANGS), aclosing(api.watch(kind, version, **how)) as watch:
        async for change in watch:
            if change.type != "BOOKMARK":
                found.append((change.type, change.object["metadata"]["name"]))
                if found[-1][1] == until:
                    return found
    return found


async def gone(api: Api, kind: Kind, namespace: str, name: str) -> None:
    """Return once an object is gone."""
    async with asyncio.timeout(HANGS):
        while True:
            items, version = await api.list(kind, namespace)
            if name not in [each["metadata"]["name"] for each in items]:
                return
            async with aclosing(api.watch(kind, version, namespace)) as watch:
                async for change in watch:
                    if change.type == "DELETED" and change.object["metadata"]["name"] == name:
                        return
