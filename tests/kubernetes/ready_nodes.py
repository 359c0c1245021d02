"""Nodes of a real cluster without a kubelet: pods are bound to them, and none runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime

from heliograph.coordinator.kubernetes.api import NODES, PODS, Api, Object
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME
from heliograph.core.tasks import cancel_and_wait
from tests.kubernetes.kubectl import Kubectl
from tests.patience import HANGS

HEARTBEAT = 10.0
"""Seconds between two signs of life of a node; after 50 without one Kubernetes takes it for unreachable."""
EDGE_TAINT = {"key": "node-role.kubernetes.io/edge", "effect": "NoSchedule"}
"""The taint of edge nodes where they have one: pods of workers tolerate it."""


@asynccontextmanager
async def ready_nodes(api: Api, kubectl: Kubectl, names: Sequence[str]) -> AsyncIterator[None]:
    """Let edge nodes be ready, until the block ends. Their pods end at once when they are deleted."""
    async with AsyncExitStack() as stack:
        for name in names:
            labels = {HOSTNAME: name, "node-role.kubernetes.io/edge": ""}
            node = {"metadata": {"name": name, "labels": labels}, "spec": {"taints": [EDGE_TAINT]}}
            await api.create(NODES, "", node)
            await _heartbeat(api, name)
            stack.push_async_callback(cancel_and_wait, asyncio.create_task(_live(api, name)))
        stack.push_async_callback(cancel_and_wait, asyncio.create_task(_end_pods(api, kubectl)))
        for name in names:
            await _untainted(api, name)
        yield


async def _live(api: Api, name: str) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT)
        await _heartbeat(api, name)


async def _heartbeat(api: Api, name: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now, "lastTransitionTime": now}
    room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
    await api.patch_status(NODES, "", name, {"status": {"conditions": [ready], "capacity": room, "allocatable": room}})


async def _untainted(api: Api, name: str) -> None:
    """Return once pods may be bound to a node: a new one has taints until a controller has seen that it is ready."""
    async with asyncio.timeout(HANGS):
        while True:
            nodes, version = await api.list(NODES)
            (node,) = (each for each in nodes if each["metadata"]["name"] == name)
            if node["spec"].get("taints") == [EDGE_TAINT]:
                return
            async with aclosing(api.watch(NODES, version)) as watch:
                await anext(watch, None)


async def _end_pods(api: Api, kubectl: Kubectl) -> None:
    """Remove pods that are being deleted, as a kubelet does once their containers have ended."""
    while True:
        pods, version = await api.list(PODS)
        for pod in pods:
            await _end(kubectl, pod)
        async with aclosing(api.watch(PODS, version)) as watch:
            async for change in watch:
                if change.type == "MODIFIED":
                    await _end(kubectl, change.object)


async def _end(kubectl: Kubectl, pod: Object) -> None:
    metadata = pod["metadata"]
    if "deletionTimestamp" in metadata:
        await kubectl("delete", "pod", metadata["name"], "--namespace", metadata["namespace"], "--grace-period", "0",
                      "--force", "--ignore-not-found")  # fmt: skip
