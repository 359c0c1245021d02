"""A task that an agent's version cannot run is reported by name; the others run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph import __version__
from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import Report
from heliograph.bus.port import Port
from heliograph.bus.transport import Bus
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.edge_agent.agent import Agent
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest, RunningWorker
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.local.nats_server import Broker
from heliograph.simulations.check.comparable import comparable
from tests.patience import HANGS

EDGE = "edge-1"
KNOWN = {"worker": "job-train", "role": "train", "job": "job", "job_uid": "u", "round": 1,
         "script": {"boot_file": "absent.py"}, "dataset": "data"}  # fmt: skip
DISTIL = KNOWN | {"worker": "job-distil", "role": "distil", "teacher": "big"}


class NoWorkers(SharedDirectory):
    """A launcher that can launch no worker."""

    async def launch(self, request: LaunchRequest) -> RunningWorker:
        raise LaunchFailed("nothing runs here")

    async def offers(self) -> bytes:
        return b"{}"


@pytest.fixture
async def cloud(broker: Callable[..., Awaitable[Broker]]) -> AsyncIterator[tuple[Broker, Bus]]:
    """Yield the cloud's broker and a coordinator's connection to it."""
    started = await broker()
    async with connect(started.url("coordinator"), name="coordinator") as bus:
        await bus.link.wait_up(HANGS)
        await bus.prepare()
        yield started, bus


async def _write(bus: Bus, n: int, tasks: list[dict[str, Any]], **more: Any) -> None:
    data = {"edge": EDGE, "generation": {"epoch": 1, "n": n}, "tasks": tasks, **more}
    address = topics.TASK.at(edge=EDGE)
    await bus.publish(address, encode(Event(f"d{n}", "cloud/coordinator/x", topics.TASK.type, data, subject=address)))


async def _reported(bus: Bus, holds: Callable[[Report], bool]) -> Report:
    """Return the first report that satisfies ``holds``."""
    port = Port(bus, World(), "cloud/test/x")
    async with asyncio.timeout(HANGS), bus.consume(topics.REPORT.filter(edge=EDGE), start=1) as messages:
        async for message in messages:
            report = port.read(topics.REPORT, message).payload
            if holds(report):
                return report
    raise AssertionError("the stream of reports ended")


def _agent(broker: Broker, state: Path) -> Agent:
    url = broker.url(f"agent-{EDGE}")
    config = AgentConfig(name=EDGE, cloud=url, node=url, worker_node=url, state=state)
    return Agent(config, NoWorkers(state / "workers"), World(), lambda line: None)


async def test_a_role_of_a_later_version_is_reported_and_the_others_run(
    cloud: tuple[Broker, Bus], tmp_path: Path
) -> None:
    broker, bus = cloud
    await _write(bus, 1, [DISTIL, KNOWN], datasets={"data": {"url": "x.csv"}, "new": {"format": "hdf5"}}, hint=3)
    running = asyncio.ensure_future(_agent(broker, tmp_path / "state").run())
    try:
        report = await _reported(bus, lambda report: len(report.workers) == 2)
        known, distil = sorted(report.workers, key=lambda each: each.worker, reverse=True)
        assert (known.worker, known.state) == ("job-train", "refused")  # waits for another reason
        assert "--code root" in known.detail
        assert (distil.worker, distil.role, distil.job_uid, distil.state) == ("job-distil", "distil", "u", "refused")
        for words in (__version__, "field role", "train or evaluate or learn or pair or aggregate", "distil"):
            assert words in distil.detail
        errors = {each.name: each.error for each in report.datasets}
        assert errors["new"].startswith("field format: expected 'npz', 'csv', 'npy', 'parquet', ")
        await _write(bus, 2, [KNOWN])
        await _reported(bus, lambda report: [each.worker for each in report.workers] == ["job-train"])
    finally:
        await cancel_and_wait(running)


async def test_a_document_with_an_unsupported_task_is_read_again_after_a_restart(
    cloud: tuple[Broker, Bus], tmp_path: Path
) -> None:
    broker, bus = cloud
    await _write(bus, 7, [DISTIL])
    running = asyncio.ensure_future(_agent(broker, tmp_path / "state").run())
    first = await _reported(bus, lambda report: report.observed.n == 7)
    await cancel_and_wait(running)
    running = asyncio.ensure_future(_agent(broker, tmp_path / "state").run())
    try:
        again = await _reported(bus, lambda report: report.observed.n == 7)
        assert comparable(topics.REPORT, again.model_dump()) == comparable(topics.REPORT, first.model_dump())
    finally:
        await cancel_and_wait(running)
