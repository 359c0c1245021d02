"""Federated jobs one after the other, through all faults of the cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from heliograph.bus.contract.resources import ENDED
from heliograph.client import AsyncClient
from heliograph.core.world import World, seeded
from heliograph.simulations.faults import deterministic_training as training
from heliograph.simulations.faults.retrying import until_answered

T = TypeVar("T")
DATASET = "samples"
SCRIPT = Path(training.__file__)
SIZES = {"small": 500, "large": 262_144, "tiny": 16, "blob": 66_000}
"""Number of floats in a job's model. Models of 2 kB travel in events, those of 1 MB as blobs; virtual time uses smaller
ones."""
SIZES_IN_TURN = ("small", "large")
ROUNDS = 8
DEADLINE = 15.0
"""Seconds after which a round closes with the updates received so far."""


def write_samples(directory: Path, edges: Sequence[str], seed: int | str) -> dict[str, Path]:
    """Write each edge's data set. The sizes differ, so that the updates have different weights."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    for edge, x in draw_samples(edges, seed).items():
        found[edge] = directory / f"{edge}.npz"
        np.savez(found[edge], x=x)
    return found


def draw_samples(edges: Sequence[str], seed: int | str) -> dict[str, training.Array]:
    """Draw each edge's samples, shape (samples, 16), float32."""
    found: dict[str, training.Array] = {}
    for number, edge in enumerate(edges):
        rng = np.random.default_rng(seeded(f"samples/{seed}/{edge}").getrandbits(32))
        found[edge] = rng.normal(size=(30 + 7 * number, 16)).astype(np.float32)
    return found


def size_of(job: str) -> int:
    """Return the number of floats in a job's model."""
    return SIZES[job.split("-")[0]]


class Jobs:
    """A chain of jobs, small and large in turn, until ``finish_after_current``.

    Attributes:
        documents: newest document of each job, by name.
    """

    def __init__(self, client: AsyncClient, edges: Sequence[str], world: World, note: Callable[[str], None]) -> None:
        self._client = client
        self._edges = edges
        self._world = world
        self._note = note
        self._last = False
        self.documents: dict[str, dict[str, Any]] = {}

    def finish_after_current(self) -> None:
        """Start no further job."""
        self._last = True

    async def run(self) -> None:
        """Run jobs until the last one has ended."""
        while not self._last:
            number = len(self.documents) + 1
            name = f"{SIZES_IN_TURN[(number - 1) % len(SIZES_IN_TURN)]}-{number}"
            await self._retry(partial(self._client.models.create, _model(name)))
            task = _task(name, self._edges)
            self.documents[name] = await self._retry(partial(self._client.jobs.create, task))
            self._note(f"job {name} begins")
            while self.documents[name]["status"]["phase"] not in ENDED:
                await self._retry(partial(self._follow, name))
            status = self.documents[name]["status"]
            self._note(f"job {name} {status['phase'].lower()} after round {status['round']}")

    async def _follow(self, name: str) -> None:
        async for document in self._client.jobs.watch(name):
            self.documents[name] = document

    async def _retry(self, request: Callable[[], Awaitable[T]]) -> T:
        return await until_answered(request, self._world)


def _model(name: str) -> dict[str, Any]:
    return {"kind": "Model", "metadata": {"name": name}}


def _task(name: str, edges: Sequence[str]) -> dict[str, Any]:
    worker = {
        "dataset": {"name": DATASET},
        "trainScriptBootFile": SCRIPT.name,
        "parameters": [{"key": "size", "value": size_of(name)}],
    }
    return {
        "kind": "FederatedTask",
        "metadata": {"name": name},
        "spec": {
            "aggregationWorker": {"model": {"name": name}},
            "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
            "rounds": ROUNDS,
            "roundDeadlineSeconds": DEADLINE,
        },
    }
