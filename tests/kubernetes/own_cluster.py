"""A real cluster that the tests may use as their own: each begins without custom resources, and leaves none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress

from heliograph.bus.contract.custom_resources.definitions import GROUP, VERSION, definitions
from heliograph.coordinator.kubernetes.api import EVENTS, JOBS, NAMESPACES, NODES, PODS, Api, Kind
from heliograph.coordinator.kubernetes.errors import Exists, NotFound
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.probes import DEFINITIONS
from tests.kubernetes.ready_nodes import ready_nodes
from tests.patience import HANGS

MADE = (NAMESPACES, NODES)
"""Kinds of which those go that were not there before the test."""
EDGE_NODES = ("node-1", "node-2")
"""Nodes that tests name."""


@asynccontextmanager
async def own_cluster(api: Api, kubectl: Kubectl) -> AsyncIterator[None]:
    """Serve our kinds, without any object of them, and have two nodes of edges that are ready. At the end delete what
    was made meanwhile."""
    for definition in definitions().values():
        with suppress(Exists):
            await api.create(DEFINITIONS, "", definition)
    for kind in custom_kinds():
        await _served(api, kind)
        await _empty(api, kind)
    before = {kind: await _names(api, kind) for kind in MADE}
    try:
        async with ready_nodes(api, kubectl, EDGE_NODES):
            try:
                yield
            finally:
                await _leave_no_pod(api)
    finally:
        for definition in definitions().values():  # a test may have removed one
            with suppress(Exists):
                await api.create(DEFINITIONS, "", definition)
        for kind in custom_kinds():
            await _served(api, kind)
            await _empty(api, kind)
        await _empty(api, EVENTS, "default")
        for kind in MADE:
            for name in await _names(api, kind) - before[kind]:
                with suppress(NotFound):
                    await api.delete(kind, "", name)
            await _until(api, kind, before[kind])


async def _leave_no_pod(api: Api) -> None:
    """Delete Jobs and pods wherever they are, while their nodes are there to end them."""
    for kind in (JOBS, PODS):
        await _empty(api, kind)


def custom_kinds() -> Iterator[Kind]:
    for definition in definitions().values():
        names = definition["spec"]["names"]
        yield Kind(GROUP, VERSION, names["plural"], names["kind"])


async def _names(api: Api, kind: Kind) -> set[str]:
    return {each["metadata"]["name"] for each in (await api.list(kind))[0]}


async def _empty(api: Api, kind: Kind, namespace: str = "") -> None:
    """Delete all objects of a kind, whatever their finalizers."""
    for each in (await api.list(kind, namespace))[0]:
        metadata = each["metadata"]
        with suppress(NotFound):
            await api.delete(kind, metadata["namespace"], metadata["name"])
            if metadata.get("finalizers"):
                patch = {"metadata": {"finalizers": None}}
                await api.patch(kind, metadata["namespace"], metadata["name"], patch)
    await _until(api, kind, set(), namespace)


async def _until(api: Api, kind: Kind, names: set[str], namespace: str = "") -> None:
    """Return once a kind has no other objects than those of some names."""
    async with asyncio.timeout(HANGS):
        while True:
            found, version = await api.list(kind, namespace)
            if {each["metadata"]["name"] for each in found} <= names:
                return
            async with aclosing(api.watch(kind, version, namespace)) as watch:
                async for change in watch:
                    if change.type == "DELETED":
                        break


async def _served(api: Api, kind: Kind) -> None:
    """Return once a kind is served: a server needs a moment to read its definition."""
    async with asyncio.timeout(HANGS):
        while True:
            try:
                await api.list(kind)
                return
            except NotFound:
                await asyncio.sleep(0.1)
