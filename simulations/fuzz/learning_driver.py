"""The driver of a run's learning jobs: it creates them, lets people label, and does what operators do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any

from heliograph.bus.contract.resources import IncrementalLearningJob, PairTrainingJob
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World, seeded
from heliograph.incremental.loop_shards import waiting_in_shards
from heliograph.simulations.fuzz import learning_documents as documents
from heliograph.simulations.fuzz.labellers import Ask, Labeller, NodeLabellers, of_the_cloud
from heliograph.simulations.fuzz.learning_plan import Act, LearningJob, PairJob
from heliograph.simulations.fuzz.learning_record import LearningRecord
from heliograph.simulations.fuzz.learning_truth import loops
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.virtual.loop import Process
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

Request = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
"""Sends a request to the coordinator until it is answered: resource, verb, document."""
ASK_EVERY = 5.0
"""Seconds between two trainings by hand of samples that begin no round by themselves."""


class LearningDriver:
    """The driver of the learning jobs of a plan.

    Args:
        bus: an operator's connection in the cloud.
    """

    def __init__(
        self, cluster: VirtualCluster, plan: Plan, record: LearningRecord, bus: Bus, request: Request
    ) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._plan = plan
        self._record = record
        self._bus = bus
        self._request = request
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Create the jobs, and do what the plan says with them."""
        self._nodes = {edge: self._node(edge) for edge in sorted(
            {edge for job in self._plan.learning if job.location == "edge" for edge in job.edges}
        )}  # fmt: skip
        for job in self._plan.learning:
            for process, labeller in self._labellers(job):
                self._spawn(process, labeller.run())
        async with asyncio.TaskGroup() as group:
            for job in self._plan.learning:
                group.create_task(self._run_job(job))
            for pair in self._plan.pairs:
                group.create_task(self._run_job(pair))

    async def finish(self) -> None:
        """Ask for the training of samples that are too few to begin a round by themselves, until cancelled."""
        while True:
            for job in self._plan.learning:
                if self._waits_for_more(job):
                    with contextlib.suppress(Refused):
                        await self._request("incremental-jobs", "training", {"name": job.name})
            await self._world.sleep(ASK_EVERY)

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks)

    def _waits_for_more(self, job: LearningJob) -> bool:
        there = [each for each in loops(self._cluster, job) if each.goes_on]
        return all(each.state.step == "waiting" and not each.open for each in there) and any(
            each.waiting or waiting_in_shards(each.state) for each in there
        )

    async def _run_job(self, job: LearningJob | PairJob) -> None:
        await self._sleep_until(job.at)
        made = documents.of_learning_job(job) if isinstance(job, LearningJob) else documents.of_pair_job(job)
        for plural, document in made:
            await self._request(plural, "create", document)
        for act in job.acts:
            await self._sleep_until(act.at)
            with contextlib.suppress(Refused):  # the job has ended, or another act was first
                await self._act(job, act)

    async def _act(self, job: LearningJob | PairJob, act: Act) -> None:
        plural = IncrementalLearningJob.plural if isinstance(job, LearningJob) else PairTrainingJob.plural
        if act.verb != "update":
            await self._request(plural, act.verb, {"name": job.name})
            return
        assert isinstance(job, LearningJob)
        changed = job.model_copy(update={"new_samples": job.new_samples + 1})
        await self._request(plural, "update", documents.incremental_job(changed))

    def _labellers(self, job: LearningJob) -> Iterator[tuple[Process | None, Labeller]]:
        places: Mapping[str, tuple[Process | None, World, Ask]] = self._nodes if job.location == "edge" else {
            CLOUD: (None, self._world, of_the_cloud(self._bus))
        }  # fmt: skip
        for place, (process, world, ask) in places.items():
            if job.location == "edge" and place not in job.edges:
                continue
            for number in range(job.overlap + 2):
                name = f"labeller-{number}"
                rng = seeded(f"labeller/{self._plan.seed}/{job.name}/{place}") if not number else None
                yield process, Labeller(ask, job.name, place, name, job.lease, self._record, world, rng)

    def _node(self, edge: str) -> tuple[Process | None, World, Ask]:
        process, world = self._cluster.new_process(edge, "labellers")
        labellers = NodeLabellers(world, "labellers")
        self._spawn(process, labellers.run())
        return process, world, labellers.ask

    def _spawn(self, process: Process | None, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the context of a process."""
        if process is None:
            self._tasks.append(asyncio.create_task(coroutine))
        else:
            self._tasks.append(process.context.run(asyncio.create_task, coroutine))

    async def _sleep_until(self, at: float) -> None:
        await self._world.sleep(max(0.0, at - self._world.monotonic()))

