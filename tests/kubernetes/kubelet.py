"""A small kubelet for tests: it runs the container of a Job's pod as a process of this machine.

Pods see the node's directories at the node's own paths, so that a process stands for a container. As the real one it
waits for a hostPath of type ``Directory``, starts a container again that has failed, also while nobody reaches an API
server, and ends a deleted pod by SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliograph.coordinator.kubernetes.api import JOBS, Api

FAILED_MOUNT = 0.05
"""Seconds after which a missing directory is looked for again."""
RESTART = 0.05
"""Seconds before a container that has failed is started again."""


@dataclass
class Pod:
    """A pod. ``phase`` is Pending, Running, Succeeded, or Failed."""

    manifest: dict[str, Any]
    phase: str = "Pending"
    starts: int = 0
    process: asyncio.subprocess.Process | None = None
    deleted: bool = False
    printed: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    def kill_container(self) -> None:
        """End the container as the machine does that has run out of memory."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)


class Kubelet:
    """The kubelet of one node, an async context manager: at its exit no pod is left.

    Args:
        environment: variables that the images of this node have, such as PYTHONPATH.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self.pods: dict[str, Pod] = {}
        self.changed = asyncio.Event()
        """Set when ``follow`` has begun to run a pod, or has ended one."""

    async def __aenter__(self) -> Kubelet:
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.pods):
            await self.delete(name)

    def run(self, job: dict[str, Any]) -> Pod:
        """Run the pod of a Job from now on."""
        pod = self.pods[job["metadata"]["name"]] = Pod(job["spec"]["template"])
        pod.running = asyncio.create_task(self._run(pod))
        return pod

    async def follow(self, api: Api, namespace: str) -> None:
        """Run the pods of the namespace's Jobs until cancelled, as an API server has them."""
        jobs, version = await api.list(JOBS, namespace)
        for job in jobs:
            self.run(job)
        while True:
            async for change in api.watch(JOBS, version, namespace):
                version = change.object["metadata"]["resourceVersion"]
                name = change.object["metadata"].get("name", "")
                if change.type == "ADDED":
                    self.run(change.object)
                elif change.type == "DELETED":
                    await self.delete(name)
                self.changed.set()

    async def delete(self, name: str) -> Pod:
        """Delete a pod, and return it once it has ended."""
        pod = self.pods.pop(name)
        pod.deleted = True
        assert pod.running is not None
        if pod.process is None:
            pod.running.cancel()
        else:
            with contextlib.suppress(ProcessLookupError):
                pod.process.terminate()
            await asyncio.wait((pod.running,), timeout=pod.manifest["spec"]["terminationGracePeriodSeconds"])
            with contextlib.suppress(ProcessLookupError):
                pod.process.kill()
        await asyncio.gather(pod.running, return_exceptions=True)
        return pod

    async def _run(self, pod: Pod) -> None:
        container = pod.manifest["spec"]["containers"][0]
        for path in _directories(pod.manifest["spec"], container):
            while not path.is_dir():
                await asyncio.sleep(FAILED_MOUNT)
        while not pod.deleted:
            code = await self._start(pod, container)
            pod.phase = "Succeeded" if code == 0 else "Failed"
            if code == 0 or pod.manifest["spec"]["restartPolicy"] == "Never":
                return
            await asyncio.sleep(RESTART)

    async def _start(self, pod: Pod, container: dict[str, Any]) -> int:
        _, *rest = container["command"]  # the image's interpreter is this one
        variables = {each["name"]: each.get("value", "").replace("$$(", "$(") for each in container["env"]}
        pod.process = await asyncio.create_subprocess_exec(
            sys.executable, *rest, *container.get("args", ()), cwd="/",
            env={**os.environ, **self._environment, **variables},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        pod.starts += 1
        pod.phase = "Running"
        pod.started.set()
        assert pod.process.stdout is not None
        async for line in pod.process.stdout:
            pod.printed.append(line.decode(errors="replace").rstrip())
        return await pod.process.wait()


def _directories(spec: dict[str, Any], container: dict[str, Any]) -> list[Path]:
    """Return the node's directories that the pod mounts; each is at its own path, so that a process finds it."""
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    found = []
    for volume in spec["volumes"]:
        if (host := volume.get("hostPath")) is not None:
            assert (host["type"], host["path"]) == ("Directory", mounts[volume["name"]])
            found.append(Path(host["path"]))
    return found
