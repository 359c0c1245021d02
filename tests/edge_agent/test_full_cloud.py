"""A cloud without room: an edge's update waits in its journal, and the edge says so until there is room."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.topics import BULK, RESULTS
from heliograph.core.errors import StoreFull
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.forwarder import Forwarder
from heliograph.edge_agent.journal import Journal, KeptEvent
from heliograph.edge_agent.journal_writer import NewEvent

EDGE = "edge-1"
UPDATE = topics.MODEL_UPDATE.at(job="job", edge=EDGE)
TELEMETRY = topics.TELEMETRY.at(edge=EDGE, device="meter")


def test_an_update_waits_for_room_while_other_lanes_go_on(on_node: Any, tmp_path: Path) -> None:
    async def test(node: Any) -> None:
        full, said = True, list[str]()

        async def upload(kept: KeptEvent) -> None:
            if full:
                raise StoreFull("the object store refused a chunk: maximum messages exceeded")

        journal = Journal(tmp_path / "journal.db", EDGE, node.world)
        forwarder = Forwarder(
            journal, node.cloud.bus, EDGE, node.world, lambda kept: kept.topic == UPDATE, upload,
            lambda kept, error: said.append(f"dropped: {error}"), said.append,
        )  # fmt: skip
        running = asyncio.create_task(forwarder.run())
        await journal.append(NewEvent(UPDATE, b"update", RESULTS))
        await journal.append(NewEvent(TELEMETRY, b"telemetry", BULK))
        await asyncio.sleep(10)
        assert forwarder.no_room == "the object store refused a chunk: maximum messages exceeded"
        assert said == [f"forwarding: {forwarder.no_room}; trying again"]  # once
        assert [await node.cloud.bus.last_sequence(stream) for stream in ("UPDATES", "TELEMETRY")] == [0, 1]
        full = False
        await asyncio.sleep(10)
        assert (forwarder.no_room, await node.cloud.bus.last_sequence("UPDATES")) == ("", 1)
        await cancel_and_wait(running)
        journal.close()

    on_node(test)
