"""A node with a launcher of pods, and a kubelet that starts them as processes, for the tests of both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from heliograph.bus.contract.payloads import PodSpec, ScriptSpec, TrainTask
from heliograph.coordinator.kubernetes.worker_job import PodSettings, worker_job
from heliograph.core.world import World
from heliograph.edge_agent.launcher import BUS, LaunchRequest, RunningWorker
from heliograph.edge_agent.pod_launcher import PodLauncher
from tests.kubernetes.kubelet import Kubelet
from tests.patience import HANGS

NAME = "job-worker"
IDENTITY = "0123456789abcdef"
SECRET_BYTES = bytes(range(32))
STANDS_FOR_A_WORKER = '''
import os, sys, traceback
if "heliograph.workers.train" in sys.orig_argv:
    code = 0
    try:
        exec(os.environ["SCRIPT"])
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)
'''
"""In each process of a pod: the worker's module runs the script in its environment."""
FOR_EVER = "print('up', flush=True); import time; time.sleep(600)"


class Node:
    """A node with a launcher and a kubelet."""

    def __init__(self, root: Path, kubelet: Kubelet) -> None:
        self.root = root
        self.kubelet = kubelet
        self.pods = root / "pods"
        self.launcher = PodLauncher(World(), self.pods, soon=0.01, kill_within=0.5)
        self.waits: list[str] = []
        self.waited = asyncio.Event()

    def job(self, identity: str = IDENTITY, name: str = "job-1", script: str = "") -> dict[str, Any]:
        """Return the Job of the worker, as the operator makes it."""
        state = self.root / "state"
        for directory in ("models", "datasets", "packages"):
            (state / directory).mkdir(parents=True, exist_ok=True)
        task = TrainTask(
            worker=NAME, job="job", job_uid="u", round=1, script=ScriptSpec(boot_file=script or "train.py"),
            pod=PodSpec(identity=identity, image="trainer:1", has_script=bool(script)),
        )  # fmt: skip
        settings = PodSettings(pods=str(self.pods), state=str(state), code="", data="")
        job = worker_job(task, "edge-1", "node-1", settings, "cloud-1")
        return {**job, "metadata": {**job["metadata"], "name": name}}

    def request(self, script: str, identity: str = IDENTITY, **more: Any) -> LaunchRequest:
        environment = {"SCRIPT": script, BUS: "memory://node", "HELIOGRAPH_EDGE": "edge-1"}
        return LaunchRequest(
            NAME, "train", SECRET_BYTES, environment, Path("/models"), pod=identity, waits=self._note_wait, **more
        )

    def _note_wait(self, text: str) -> None:
        self.waits.append(text)
        self.waited.set()


@asynccontextmanager
async def node_with_pods(root: Path) -> AsyncIterator[Node]:
    """Yield a node; at the end no pod is left."""
    site = root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(STANDS_FOR_A_WORKER)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    async with asyncio.timeout(HANGS), Kubelet({"PYTHONPATH": path}) as kubelet:
        node = Node(root, kubelet)
        try:
            yield node
        finally:
            node.launcher.sweep(())


async def lines_of(worker: RunningWorker) -> list[str]:
    assert worker.lines is not None
    return [line async for line in worker.lines]


async def first_line(worker: RunningWorker) -> tuple[str, AsyncIterator[str]]:
    assert worker.lines is not None
    lines = worker.lines
    return await anext(lines), lines
