"""Brokers for tests, the embedded one and mosquitto: each runs on free ports and ends with its test."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from heliograph.bus.contract.permissions import Place
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.auth_callout import AuthCallout, CalloutKeys
from heliograph.bus.nats.authority import CALLOUT_KEYS
from heliograph.core.errors import HeliographError
from heliograph.core.loop_thread import LoopThread
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.mosquitto import Mosquitto, find_mosquitto
from heliograph.local.nats_server import Broker, User, find_nats_server
from tests.outside_package import install as install_package
from tests.virtual_node import on_node as on_node  # a fixture

USERS = (
    User("coordinator", "of-coordinator", "coordinator"),
    User("operator", "of-operator", "operator"),
    User("alice", "of-alice", "user"),
    User("bob", "of-bob", "user"),
    User("agent-edge-1", "of-edge-1", "agent", "edge-1"),
    User("agent-edge-2", "of-edge-2", "agent", "edge-2"),
    User("worker", "of-worker", "worker"),
)
"""A login for each role that has one by name, an agent for each of two edges, and two users."""


TOYS = {"ToyMoments": "toy_algorithms:Moments", "ToyClusters": "toy_algorithms:Clusters"}


@pytest.fixture
def installed_algorithms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return ``installed_algorithms(Name="module:Class")``, which installs a copy of ``tests/data/algorithms``.

    It returns the directory of the copy. This process and every process started later find the package.
    """

    def install(**more: str) -> Path:
        place = tmp_path / "installed"
        entries = [f"{name} = {where}" for name, where in (TOYS | more).items()]
        install_package(place, "algorithms", "heliograph.algorithms", entries)
        monkeypatch.syspath_prepend(str(place))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH", "")])))
        return place

    return install


# no deadline and no slowness check: on a loaded machine neither says anything about the code
hypothesis.settings.register_profile("usual", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("fast", hypothesis.settings.get_profile("usual"), max_examples=20)
"""The profile of ``make test-fast``: enough examples to find a recent mistake."""
hypothesis.settings.load_profile("usual")
LEFT_OUT = {
    "process": {"broker", "mosquitto", "cluster", "meeting", "alone", "cloud", "kubectl"},
    "framework": {"framework"},
}
"""Markers of tests that start processes or import a framework, with the fixtures that give a test the marker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ``make test-fast`` leaves out."""
    for item in items:
        for marker, fixtures in LEFT_OUT.items():
            if not fixtures.isdisjoint(getattr(item, "fixturenames", ())):
                item.add_marker(marker)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Broker]]]:
    """Return ``await broker(place="cloud", users=..., root=..., ping_interval=...)``, which starts an embedded broker.
    Its users are ``USERS`` if none are given."""
    find_nats_server()
    started: list[Broker] = []
    deciding: list[tuple[LoopThread, asyncio.Task[None]]] = []

    async def start(
        place: Place = "cloud", users: Iterable[User] = USERS, root: str = DEFAULT_ROOT, ping_interval: str = "60s"
    ) -> Broker:  # on a loaded machine a process may not answer for seconds
        directory = tmp_path / f"broker-{len(started)}"
        one = Broker(directory, place, tuple(users), root=root, ping_interval=ping_interval)
        started.append(one)
        await one.start()
        if place == "cloud":  # in a cluster the coordinator decides about clients without a login
            thread = LoopThread("callout")
            deciding.append((thread, thread.run(_decide(one))))
        return one

    yield start
    for thread, task in deciding:
        thread.run(cancel_and_wait(task))
        thread.close()
    for each in started:
        await each.kill()


def need_mosquitto() -> None:
    """Skip the test if mosquitto is not installed; fail it if the environment requires mosquitto."""
    try:
        find_mosquitto()
    except HeliographError as error:
        if os.environ.get("HELIOGRAPH_REQUIRE_MOSQUITTO") == "1":
            pytest.fail(f"{error}; HELIOGRAPH_REQUIRE_MOSQUITTO=1 requires it")
        pytest.skip(str(error))


async def _decide(server: Broker) -> asyncio.Task[None]:
    """Start what decides about clients without a login, and return it once it listens."""
    callout = AuthCallout(server.url(), CalloutKeys.read(server.identity / CALLOUT_KEYS), World())
    task = asyncio.create_task(callout.run())
    await callout.listening.wait()
    return task


@pytest.fixture
def framework() -> Callable[[str], ModuleType]:
    """Return ``framework("torch")``, which imports the framework; it skips or fails the test if that is impossible."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as missing:
            if missing.name != name:
                raise
        reason = f"{name} is not installed"
        if os.environ.get("HELIOGRAPH_REQUIRE_FRAMEWORKS") == "1":
            pytest.fail(f"{reason}, but HELIOGRAPH_REQUIRE_FRAMEWORKS=1 requires it")
        pytest.skip(f"{reason}; make test-frameworks installs it and runs this test")

    return find


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Mosquitto]]]:
    """Return ``await mosquitto(*settings)``, which starts a mosquitto open to everyone, or skips the test."""
    started: list[Mosquitto] = []

    async def start(*settings: str) -> Mosquitto:
        need_mosquitto()
        directory = tmp_path / f"mosquitto-{len(started)}"
        one = Mosquitto(directory, ("set_tcp_nodelay true", "persistence false", *settings))
        started.append(one)
        await one.start()
        return one

    yield start
    for each in started:
        await each.kill()
