"""An agent with a broker of its own for its workers, beside the broker of the node's devices.

The devices' broker of a KubeEdge node lets everybody in: whoever reaches it could read what workers and agent say to
each other, and hold it up. Here who has no login is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.core.world import World
from heliograph.edge_agent.agent_config import AgentConfig
from heliograph.local import disk_room
from heliograph.local.nats_server import Broker, User
from heliograph.local.restarts import Supervision

AGENT = "agent"
"""The agent's login."""


def using(broker: Broker, config: AgentConfig) -> AgentConfig:
    """Return an agent's options with the broker in place of that of its devices, which it uses for these alone."""
    return replace(
        config, node=broker.url(AGENT, "mqtt"), worker_node=broker.url(scheme="mqtt"), devices=config.node,
        worker_issuer=WorkerIssuer.read(broker.worker_issuer),
    )  # fmt: skip


class WithWorkerBroker:
    """Starts the broker, and runs an agent that uses it. A broker that ends by itself is started again.

    Args:
        directory: where the broker keeps its keys and its store.
        agent: runs the agent, once the broker has its ports.
        say: called with a line about a broker that has ended.
    """

    def __init__(
        self, directory: Path, edge: str, agent: Callable[[Broker], Coroutine[Any, Any, None]], world: World,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._agent = agent
        self._world = world
        self._say = say
        self._broker = Broker(directory, "node", (User(AGENT, "", "agent"),), name=edge, world=world, anonymous=False)

    async def run(self) -> None:
        """Run until cancelled. Raise HeliographError where the broker does not start, or the agent cannot go on."""
        room = await self._world.in_thread(disk_room.measure, self._broker.directory.parent, 1)
        self._broker.store_bytes = room.node
        supervision = Supervision(self._world, self._say)
        try:
            await self._broker.start()
            supervision.keep("the broker of this node's workers", self._broker)
            await self._agent(self._broker)
        finally:
            await supervision.stop()
            await asyncio.shield(self._broker.stop())
