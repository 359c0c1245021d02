"""One process of a fleet. It reads ``{"edges": {name: NATS URL}, "elements": n, "directory": "..."}`` from its standard
input and runs the agents of these edges until it is killed."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from heliograph.bus.connect import connect
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Bus
from heliograph.core.world import World
from heliograph.edge_agent.agent import Agent
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.fleet.task_launcher import TaskLauncher
from heliograph.simulations.virtual.virtual_cluster import NODE_URL, SCRIPT
from heliograph.simulations.virtual.worker_programs import worker_programs


async def fleet(urls: dict[str, str], elements: int, directory: Path) -> None:
    """Run the agents until cancelled; print "ready" once all agents are ready."""
    workers = worker_programs(Echo(elements), lambda edge: 1.0)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SCRIPT).write_text("")
    ready = 0

    def say(line: str) -> None:
        nonlocal ready
        if line.endswith("is ready"):
            ready += 1
            if ready == len(urls):
                print("ready", flush=True)
        elif line.startswith("warning"):
            print(line, file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for name, url in urls.items():
            code = (CodeRoot(directory, directory),)
            config = AgentConfig(name, url, NODE_URL, NODE_URL, directory / name, code)
            world = _world()
            launcher = TaskLauncher(workers, world, config.state / "workers")
            group.create_task(Agent(config, launcher, world, say).run())
            await asyncio.sleep(0)  # noqa: TID251 - let the other agents start


def _world() -> World:
    """Return the real world, except that the node's broker is in memory."""
    hub = Hub(keeps_streams=False)
    plain = World()

    def transport(url: str, root: str, world: World, name: str, inbox: str) -> Bus:
        if url != NODE_URL:
            return connect(url, root=root, world=plain, name=name, inbox=inbox)
        bus = MemoryBus(url, root, plain, name, hub)
        bus.durable = False
        return bus

    return replace(plain, transport=transport)


def main() -> None:
    settings = json.loads(sys.stdin.read())
    import uvloop

    uvloop.run(fleet(settings["edges"], settings["elements"], Path(settings["directory"])))


if __name__ == "__main__":
    main()
