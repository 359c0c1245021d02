"""The workers that are pods: their Jobs follow what the edges are to do, and jobs and services say why a pod does not
run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from heliograph.coordinator.kubernetes.api import JOBS, PODS, Api, Kind
from heliograph.coordinator.kubernetes.errors import Exists, NotFound
from heliograph.coordinator.kubernetes.list_watch import Follower
from heliograph.coordinator.kubernetes.worker_job import PodSettings, selector_of
from heliograph.coordinator.kubernetes.worker_jobs import Wanted, WorkerJobs, problems_of
from heliograph.core.tasks import wait_for
from heliograph.core.world import World

PAUSE = 0.5
"""Seconds between two passes, at least: one serves all changes of its time."""
AGAIN = 10.0
"""Seconds until what an API server refused is tried again."""
Problems = Mapping[str, list[str]]
"""Why pods do not run, a sentence each, by the uid of the job or service."""


class PodWorkers:
    """Creates and deletes Jobs of workers, while a coordinator leads.

    Args:
        cloud: id of this cloud; the Jobs and pods of another one's workers are left alone.
        wanted: returns what is desired now.
        tell: called with all problems when they are known first, since an earlier leader may have told of some that are
            over, and whenever they have changed.
        warn: called with a line about the API server.
    """

    def __init__(
        self, api: Api, settings: PodSettings, cloud: str, wanted: Callable[[], Wanted],
        tell: Callable[[Problems], Awaitable[None]], world: World, warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._wanted = wanted
        self._tell = tell
        self._world = world
        self._due = asyncio.Event()

        def follower(kind: Kind) -> Follower:
            return Follower(api, kind, world, lambda *_: self._due.set(), warn, namespace=settings.namespace,
                            labels=selector_of(cloud), resumed=lambda _: self._due.set())  # fmt: skip

        self._jobs, self._pods = follower(JOBS), follower(PODS)
        self._worker_jobs = WorkerJobs(_Jobs(api, settings.namespace, self._jobs), settings, cloud)
        self._told: Problems | None = None

    def desired_changed(self) -> None:
        """Take note that the desired documents, or the edges, have changed."""
        self._due.set()

    async def run(self) -> None:
        """Keep the Jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for follower in (self._jobs, self._pods):
                group.create_task(follower.run())
            group.create_task(self._look_once_pods_are_known())
            group.create_task(self._keep())

    async def _look_once_pods_are_known(self) -> None:
        await self._pods.synced.wait()
        self._due.set()

    async def _keep(self) -> None:
        await self._jobs.synced.wait()  # else Jobs that exist would be created once more
        while True:
            self._due.clear()
            if not self._jobs.problem:
                await self._worker_jobs.reconcile(self._wanted())
            refused = self._worker_jobs.problems
            problems = {uid: list(each) for uid, each in refused.items()}
            for uid, each in problems_of([*self._pods.objects.values()]).items():
                problems.setdefault(uid, []).extend(each)
            if problems != self._told and (problems or self._pods.synced.is_set()):
                await self._tell(problems)
                self._told = problems
            await self._world.sleep(PAUSE)
            if refused:
                await wait_for(self._due, AGAIN)
            else:
                await self._due.wait()


class _Jobs:
    """The Jobs of one namespace, as ``WorkerJobs`` asks for them."""

    def __init__(self, api: Api, namespace: str, follower: Follower) -> None:
        self._api = api
        self._namespace = namespace
        self._follower = follower

    @property
    def objects(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: job for (_, name), job in self._follower.objects.items()}

    async def create(self, manifest: dict[str, Any]) -> None:
        try:
            await self._api.create(JOBS, self._namespace, manifest)
        except Exists:
            return

    async def delete(self, name: str) -> None:
        try:
            await self._api.delete(JOBS, self._namespace, name)
        except NotFound:
            return
