"""An agent's gateway and journal in a process of their own, for ``node_rates.worker``; arguments: DIRECTORY URL."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from heliograph.bus.connect import connect
from heliograph.bus.contract.payloads import TrainTask
from heliograph.bus.port import Port
from heliograph.core.tasks import Background
from heliograph.core.world import World
from heliograph.edge_agent.gateway import Gateway
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.producers import ProducerWatch
from heliograph.edge_agent.supervised_worker import Worker

EDGE = "edge-1"


async def serve(directory: str, url: str) -> None:
    """Journal and acknowledge the worker's events until the process is killed; print a line once it listens."""
    world, background = World(), Background(print)
    journal = Journal(Path(directory) / "journal.db", EDGE, world)
    task = TrainTask(worker="w", job="job", job_uid="uid", round=1)
    workers = {"w": Worker(task, bytes(32))}
    async with connect(url, world=world, name="agent") as bus:
        gateway = Gateway(Port(bus, world, f"{EDGE}/agent/life"), EDGE, journal, workers, background,
                          lambda topic, error: print(error, file=sys.stderr), ProducerWatch(print))  # fmt: skip
        running = asyncio.create_task(gateway.run())
        await gateway.listening.wait()
        print("listening", flush=True)
        await running


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
