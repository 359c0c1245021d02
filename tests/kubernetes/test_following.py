"""A follower on real connections: the server goes, forgets, hangs, and loses the kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from heliograph.coordinator.kubernetes import client
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.coordinator.kubernetes.list_watch import Follower
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer
from tests.kubernetes.probes import DEFINITIONS, Probes, definition, new_kind
from tests.patience import HANGS

FASTER = 50.0
"""Pauses between attempts are this much shorter in these tests."""
FINALIZER = "example.com/following"


@dataclass
class Followed:
    """A running follower of probes."""

    server: ApiServer
    probes: Probes
    follower: Follower
    lines: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once something holds, which is asked for after each change and each line."""
        async with asyncio.timeout(HANGS):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def until_names(self, names: str) -> None:
        await self.until(lambda: " ".join(sorted(name for _, name in self.follower.objects)) == names)


@pytest.fixture
async def followed(api_server: ApiServer, kubernetes: KubernetesClient) -> AsyncIterator[Followed]:
    """Return a follower that has listed one probe named a."""
    probes = Probes(kubernetes, new_kind(), "default")
    await kubernetes.create(DEFINITIONS, "", definition(probes.kind))
    await probes.create(finalizers=[FINALIZER])
    lines, changed = list[str](), asyncio.Event()

    def say(line: str) -> None:
        lines.append(line)
        changed.set()

    world = replace(World(), sleep=lambda seconds: asyncio.sleep(seconds / FASTER))
    follower = Follower(kubernetes, probes.kind, world, lambda *_: changed.set(), say)
    task = asyncio.create_task(follower.run())
    async with asyncio.timeout(HANGS):
        await api_server.watched.wait()
    yield Followed(api_server, probes, follower, lines, changed)
    assert not task.done()
    await cancel_and_wait(task)


async def test_changes_come_as_they_are_made(followed: Followed) -> None:
    await followed.probes.create("b")
    await followed.until_names("a b")
    await followed.probes.patch({"spec": {"size": 3}}, "b")
    await followed.until(lambda: followed.follower.objects["default", "b"]["spec"]["size"] == 3)
    assert "managedFields" not in followed.follower.objects["default", "b"]["metadata"]
    await followed.probes.delete("b")
    await followed.until_names("a")
    assert followed.lines == [] and [path for _, path in followed.server.requests if "probes?limit" in path] != []


async def test_a_server_that_is_gone_takes_nothing_and_what_it_changed_meanwhile_is_found(followed: Followed) -> None:
    await followed.server.stop()
    await followed.until(lambda: bool(followed.follower.problem))
    assert "cannot be reached" in followed.lines[0] and ("default", "a") in followed.follower.objects
    kind, given = followed.server.registry.kind(followed.probes.kind.group, "v1", "probes"), followed.probes.probe("b")
    followed.server.registry.create(kind, "default", given, "somebody")
    await followed.server.start()
    await followed.until_names("a b")
    assert followed.follower.problem == "" and len(followed.lines) == 2


async def test_a_version_that_the_server_forgets_leads_to_a_list(followed: Followed) -> None:
    followed.server.store.forget()
    await followed.probes.create("b")
    await followed.until_names("a b")
    assert followed.lines == []


async def test_a_dead_connection_is_noticed(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SILENCE_AFTER_WATCH", -0.5)
    followed.server.faults.silent_watches = True
    followed.follower._watch_seconds = 1
    followed.server.store.forget()  # the next watch begins now
    await followed.until(lambda: "does not answer in time" in followed.follower.problem)
    followed.server.faults.silent_watches = False
    await followed.probes.create("b")
    await followed.until_names("a b")


async def test_a_server_that_answers_nothing_is_a_problem(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REQUEST_SECONDS", 0.2)
    followed.server.faults.hangs = True
    followed.server.store.forget()
    await followed.until(lambda: "does not answer in time" in followed.follower.problem)
    followed.server.faults.hangs = False
    await followed.until(lambda: followed.follower.problem == "")


async def test_a_right_that_is_taken_and_given_back(followed: Followed) -> None:
    followed.server.faults.forbidden = {("*", followed.probes.kind.resource)}
    followed.server.store.forget()
    await followed.until(lambda: "the verb 'list'" in followed.follower.problem)
    assert ("default", "a") in followed.follower.objects
    followed.server.faults.forbidden = set()
    await followed.until(lambda: followed.follower.problem == "")


async def test_a_definition_that_is_removed_and_applied_again(followed: Followed) -> None:
    probes = followed.probes
    await probes.create("b")
    await probes.api.delete(DEFINITIONS, "", probes.kind.resource)
    await followed.until_names("a")
    assert followed.follower.objects["default", "a"]["metadata"]["deletionTimestamp"]
    await probes.patch({"metadata": {"finalizers": None}})
    await followed.until_names("")
    await followed.until(lambda: "does not serve" in followed.follower.problem)
    await probes.api.create(DEFINITIONS, "", definition(probes.kind))
    await probes.create("c")
    await followed.until_names("c")
    assert [line for line in followed.lines if "does not serve" in line] == followed.lines[:1]


async def test_watches_that_end_at_once_are_opened_a_few_times_a_second_at_most(
    api_server: ApiServer, kubernetes: KubernetesClient
) -> None:
    """The client's own watch opens a stream that ends at once 475 times a second."""
    api_server.faults.ends_watches = True
    probes = Probes(kubernetes, new_kind(), "default")
    await kubernetes.create(DEFINITIONS, "", definition(probes.kind))
    follower = Follower(kubernetes, probes.kind, World(), lambda *_: None, lambda line: None)
    task = asyncio.create_task(follower.run())
    async with asyncio.timeout(HANGS):
        await follower.synced.wait()
    api_server.requests.clear()
    await asyncio.sleep(2)  # what is measured is a rate
    opened = [path for _, path in api_server.requests if "watch=true" in path]
    assert 1 <= len(opened) <= 6
    await cancel_and_wait(task)
