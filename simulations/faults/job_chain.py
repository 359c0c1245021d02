"""Federated jobs one after the other, through whatever befalls the cluster meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from heliograph.bus.contract.resources import ENDED
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World, seeded
from heliograph.simulations.faults import deterministic_training as training

T = TypeVar("T")
AGAIN = 0.3
DATASET = "samples"
SCRIPT = Path(training.__file__)
SIZES = {"small": 500, "large": 262_144, "tiny": 16, "blob": 66_000}
"""Floats of a job's model: 2 kB travel inside their events, 1 MB travels as blobs. In virtual time less will do."""
DEALT = ("small", "large")
ROUNDS = 8
DEADLINE = 15.0
"""Seconds after which a round closes with what it has."""


def write_samples(directory: Path, edges: Sequence[str], seed: int | str) -> dict[str, Path]:
    """Each edge's data set: of different sizes, so that the updates weigh differently."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    for edge, x in draw_samples(edges, seed).items():
        found[edge] = directory / f"{edge}.npz"
        np.savez(found[edge], x=x)
    return found


def draw_samples(edges: Sequence[str], seed: int | str) -> dict[str, training.Array]:
    """What ``write_samples`` writes."""
    found: dict[str, training.Array] = {}
    for number, edge in enumerate(edges):
        rng = np.random.default_rng(seeded(f"samples/{seed}/{edge}").getrandbits(32))
        found[edge] = rng.normal(size=(30 + 7 * number, 16)).astype(np.float32)
    return found


def size_of(job: str) -> int:
    """Floats of the model of the job of that name."""
    return SIZES[job.split("-")[0]]


class Jobs:
    """Runs jobs, small and large in turn, until it is told that the one it runs is the last.

    ``documents`` holds each job's newest document by its name.
    """

    def __init__(self, client: AsyncClient, edges: Sequence[str], world: World, note: Callable[[str], None]) -> None:
        self._client = client
        self._edges = edges
        self._world = world
        self._note = note
        self._last = False
        self.documents: dict[str, dict[str, Any]] = {}

    def last(self) -> None:
        """No further job is begun."""
        self._last = True

    async def run(self) -> None:
        """Returns when the last job has ended."""
        while not self._last:
            number = len(self.documents) + 1
            name = f"{DEALT[(number - 1) % len(DEALT)]}-{number}"
            await self._patiently(partial(self._client.models.create, _model(name)))
            task = _task(name, self._edges)
            self.documents[name] = await self._patiently(partial(self._client.jobs.create, task))
            self._note(f"job {name} begins")
            while self.documents[name]["status"]["phase"] not in ENDED:
                await self._patiently(partial(self._follow, name))
            status = self.documents[name]["status"]
            self._note(f"job {name} {status['phase'].lower()} after round {status['round']}")

    async def _follow(self, name: str) -> None:
        async for document in self._client.jobs.watch(name):
            self.documents[name] = document

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks until there is an answer: broker and coordinator may be away."""
        while True:
            try:
                return await ask()
            except Refused:
                raise
            except HeliographError:
                await self._world.sleep(AGAIN)


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
