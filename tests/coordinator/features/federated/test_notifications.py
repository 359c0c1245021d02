"""The ends of jobs are told once each is stored, and again after a coordinator was lost before it told them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.buckets import RESOURCES
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.resources import dump
from heliograph.bus.port import Port
from heliograph.coordinator.api.announcements import Announcements
from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
from heliograph.coordinator.features.federated.notifications import ending_of, id_of, recently_ended
from heliograph.coordinator.features.federated.state_machine import close
from heliograph.coordinator.features.federated.steps import stop
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World, rfc3339
from tests.coordinator.features.federated.test_state_machine import ALL, EDGES, _closed, _running, _weights
from tests.patience import HANGS


def _stopped(name: str, seconds: float) -> Any:
    task = close(_running(), _closed(1, *EDGES, model=4), ALL, rfc3339(seconds))
    ended = stop(task, rfc3339(seconds))
    metadata = {"name": name, "uid": f"uid-{name}", "created_by": "alice"}
    return ended.model_copy(update={"metadata": ended.metadata.model_copy(update=metadata)})


def test_an_end_says_what_became_of_the_job() -> None:
    ending = ending_of(_stopped("j", 1_800_000_000))
    assert (ending.phase, ending.reason, ending.kind) == ("Stopped", "Stopped", "FederatedTask")
    assert ending.message == "stopped on request; the model of round 1 is kept"
    assert (ending.model, ending.digest, ending.round) == ("m", _weights(4).digest, 1)
    assert (ending.created_by, id_of(ending)) == ("alice", "uid-j.ended")
    assert ending_of(_running()).phase == "Deleted"  # it has not ended: it is told because it is deleted


def test_only_the_ends_of_a_day_are_looked_at_again() -> None:
    tasks = [_running(), _stopped("old", 1_800_000_000 - 86_401), _stopped("new", 1_800_000_000 - 86_399)]
    assert [each.name for each in recently_ended(tasks, rfc3339(1_800_000_000))] == ["new"]


async def test_a_new_leader_tells_the_ends_that_its_predecessor_could_not() -> None:
    world = World()
    url = f"memory://ends-{world.new_id()}"
    async with connect(url, world=world, name="before") as bus:
        store, port = await bus.kv(RESOURCES), Port(bus, world, "cloud/coordinator/1")
        untold, told, again = (_stopped(name, world.now()) for name in ("untold", "told", "again"))
        for each in (untold, told, again):
            await store.put(f"jobs.{each.name}", json.dumps(dump(each)).encode())
        await port.publish(topics.JOB_ENDED, ending_of(told), id="first", form="json", job="told")
        earlier = ending_of(again).model_copy(update={"job_uid": "an earlier job of that name"})
        await port.publish(topics.JOB_ENDED, earlier, id="second", form="json", job="again")
        async with bus.consume(topics.JOB_ENDED.filter(), start=3) as messages:
            leading = asyncio.create_task(Coordinator(CoordinatorConfig(nats=url), world, lambda line: None).run())
            try:
                async with asyncio.timeout(HANGS):
                    found = [await anext(messages) for _ in range(2)]
            finally:
                await cancel_and_wait(leading)
        events = {decode(each.body).data["job"]: decode(each.body) for each in found}
        assert {name: each.id for name, each in events.items()} == {
            "again": "uid-again.ended", "untold": "uid-untold.ended",
        }  # fmt: skip
        assert all(each.body.startswith(b"{") for each in found)  # JSON, for clients in any language
        assert await bus.last_sequence(topics.JOB_ENDED.stream_name) == 4


async def test_a_door_of_its_own_hears_it_too_and_one_that_is_gone_hinders_nobody() -> None:
    world = World()
    names = [f"memory://door-{world.new_id()}" for _ in range(3)]
    said: list[str] = []
    async with AsyncExitStack() as opened:
        cloud, door, gone = [await opened.enter_async_context(connect(name, world=world, name="c")) for name in names]
        heard = await opened.enter_async_context(door.subscribe(topics.JOB_ENDED.filter()))
        await gone.close()
        announcements = Announcements(Port(cloud, world, "cloud/coordinator/1"), [gone, door], Failures(said.append))
        await announcements.publish(topics.JOB_ENDED, ending_of(_stopped("j", 1)), "uid-j.ended", job="j")
        async with asyncio.timeout(HANGS):
            assert decode((await anext(heard)).body).id == "uid-j.ended"
        assert await cloud.last(topics.JOB_ENDED.at(job="j")) is not None
    assert len(said) == 1 and "event/job-ended/j" in said[0]
