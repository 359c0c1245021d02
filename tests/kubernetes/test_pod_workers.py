"""Jobs of workers follow what is desired, on the API server; why a pod does not run is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from heliograph.coordinator.kubernetes.api import JOBS, NAMESPACES, Api, Object
from heliograph.coordinator.kubernetes.pod_settings_file import read_pod_settings
from heliograph.coordinator.kubernetes.pod_workers import PodWorkers, Problems
from heliograph.coordinator.kubernetes.worker_job import HOSTNAME, PodSettings
from heliograph.coordinator.kubernetes.worker_jobs import Wanted, problems_of
from heliograph.core.errors import Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from tests.coordinator.kubernetes.worker_tasks import CLOUD_ID, train_task
from tests.kubernetes.api_server.server import ApiServer
from tests.kubernetes.fake_pods import container_is, pod_like
from tests.kubernetes.running_operator import Printed
from tests.patience import HANGS

NAMESPACE = "workers"


@dataclass
class Desk:
    """What a test sets and sees."""

    api: Api
    workers: PodWorkers
    wanted: Wanted = field(default_factory=lambda: Wanted({}, {}))
    told: asyncio.Queue[Problems] = field(default_factory=asyncio.Queue)
    printed: Printed = field(default_factory=Printed)

    def want(self, *tasks: Any, node: str = "node-1") -> None:
        self.wanted = Wanted({"edge-1": list(tasks)}, {"edge-1": {HOSTNAME: node} if node else {}})
        self.workers.desired_changed()

    async def jobs(self, number: int) -> list[Object]:
        """Return the Jobs once there are so many."""
        async with asyncio.timeout(HANGS):
            while True:
                found, version = await self.api.list(JOBS, NAMESPACE)
                if len(found) == number:
                    return found
                async for change in self.api.watch(JOBS, version, NAMESPACE):
                    if change.type in ("ADDED", "DELETED"):
                        break


@asynccontextmanager
async def keeping(api: Api, **settings: Any) -> AsyncIterator[Desk]:
    await api.create(NAMESPACES, "", {"metadata": {"name": NAMESPACE}})

    async def tell(problems: Problems) -> None:
        desk.told.put_nowait(problems)

    printed, given = Printed(), PodSettings(namespace=NAMESPACE, **{"images": ("*",), **settings})
    workers = PodWorkers(api, given, CLOUD_ID, lambda: desk.wanted, tell, World(), printed)
    desk = Desk(api, workers, printed=printed)
    task = asyncio.create_task(workers.run())
    try:
        async with asyncio.timeout(HANGS):
            assert await desk.told.get() == {}  # what an earlier leader has told is over
        yield desk
    finally:
        await cancel_and_wait(task)


async def test_a_job_comes_and_goes_with_its_task(kubernetes: Api) -> None:
    async with keeping(kubernetes) as desk:
        desk.want(train_task())
        (job,) = await desk.jobs(1)
        assert job["spec"]["podReplacementPolicy"] == "Failed"
        assert "nodeName" not in job["spec"]["template"]["spec"]
        desk.want()
        await desk.jobs(0)


async def test_a_job_that_somebody_has_deleted_comes_again(kubernetes: Api) -> None:
    async with keeping(kubernetes) as desk:
        desk.want(train_task())
        (job,) = await desk.jobs(1)
        await kubernetes.delete(JOBS, NAMESPACE, job["metadata"]["name"], uid=job["metadata"]["uid"])
        async with asyncio.timeout(HANGS):
            while (await desk.jobs(1))[0]["metadata"]["uid"] == job["metadata"]["uid"]:
                await asyncio.sleep(0.01)


async def test_a_job_that_is_wanted_while_the_api_server_is_away_comes_once_it_is_back(
    kubernetes: Api, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(kubernetes) as desk:
        await api_server.stop()
        await desk.printed.until("Kubernetes: the API server", 2)  # Jobs and pods
        looked = asyncio.Event()

        def looks(pods: Sequence[Object]) -> dict[str, list[str]]:
            looked.set()
            return problems_of(pods)

        monkeypatch.setattr("heliograph.coordinator.kubernetes.pod_workers.problems_of", looks)
        desk.want(train_task())
        async with asyncio.timeout(HANGS):
            await looked.wait()
        await api_server.start()
        await desk.jobs(1)


async def test_an_image_that_cannot_be_pulled_is_told_and_taken_back_once_it_is(kubernetes: Api) -> None:
    async with keeping(kubernetes) as desk:
        desk.want(given := train_task())
        (job,) = await desk.jobs(1)
        await pod_like(kubernetes, job)
        await container_is(kubernetes, NAMESPACE, waiting={"reason": "ImagePullBackOff", "message": "no such host"})
        async with asyncio.timeout(HANGS):
            problems = await desk.told.get()
        (sentence,) = problems[given.job_uid]
        assert "ImagePullBackOff: no such host" in sentence and "edge edge-1" in sentence
        await container_is(kubernetes, NAMESPACE, running={})
        async with asyncio.timeout(HANGS):
            assert await desk.told.get() == {}


@pytest.mark.parametrize(("settings", "node", "said"), [
    ({"images": ()}, "node-1", "may not run here"), ({}, "", "nobody knows on which node"),
])  # fmt: skip
async def test_what_makes_no_job_is_told(kubernetes: Api, settings: Any, node: str, said: str) -> None:
    async with keeping(kubernetes, **settings) as desk:
        desk.want(given := train_task(), node=node)
        async with asyncio.timeout(HANGS):
            problems = await desk.told.get()
        assert said in problems[given.job_uid][0]
        assert await desk.jobs(0) == []


async def test_a_job_that_is_forbidden_is_told_and_made_once_it_is_allowed(
    kubernetes: Api, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliograph.coordinator.kubernetes.pod_workers.AGAIN", 0.1)
    api_server.faults.forbidden.add(("create", "jobs.batch"))
    async with keeping(kubernetes) as desk:
        desk.want(given := train_task())
        async with asyncio.timeout(HANGS):
            assert "Role" in (await desk.told.get())[given.job_uid][0]
        api_server.faults.forbidden.clear()
        await desk.jobs(1)


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pods.toml"
    file.write_text('images = ["example.com/team/"]\nhostPaths = ["/srv"]\nuser = 5\n')
    assert read_pod_settings(file) == PodSettings(images=("example.com/team/",), host_paths=("/srv",), user=5)


@pytest.mark.parametrize(("text", "said"), [
    ("image = []", "field image: expected one of namespace"),
    ("images = 'all'", "field images: expected a list of texts"),
    ("user = 'root'", "field user: expected a number"),
    ("[", "expected TOML, got"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "pods.toml"
    file.write_text(text)
    with pytest.raises(Refused, match=r"pods\.toml") as refused:
        read_pod_settings(file)
    assert said in str(refused.value)
