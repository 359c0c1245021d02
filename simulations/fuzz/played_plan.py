"""A plan played on a cluster in virtual time, and judged."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus
from heliograph.client import result_of
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.simulations.faults.evidence import Evidence, Follower, collect
from heliograph.simulations.faults.invariants import Violation, check
from heliograph.simulations.faults.job_chain import draw_samples, size_of
from heliograph.simulations.fuzz.computing import Computing
from heliograph.simulations.fuzz.devices import Devices
from heliograph.simulations.fuzz.inflict import Inflicting
from heliograph.simulations.fuzz.plan import Job, Plan
from heliograph.simulations.fuzz.settling import waits_for
from heliograph.simulations.fuzz.watching import Watching, ends_as_desired
from heliograph.simulations.virtual.loop import Stuck, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually
from heliograph.simulations.virtual.virtual_cluster import SCRIPT, EdgeSpec, VirtualCluster

SETTLE = 300.0
"""Seconds within which, after the last fault, everything has to be as if none had been."""
LOOK_EVERY = 1.0
AGAIN = 0.5
ANSWER_WITHIN = 5.0
LAST = 30.0
"""Seconds in which what is asked for once more in the end has to come."""
TURNS = 300_000
"""Of the event loop; a run takes some ten thousand."""
Tap = Callable[[Recorded], None]


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        digest: of every message in the cloud and on the nodes, with its time: the same plan gives the same.
        seconds: how long it took, of its own clock.
        said: the lines that the processes printed, with their times.
    """

    violations: list[Violation]
    digest: str = ""
    seconds: float = 0.0
    messages: int = 0
    rounds: int = 0
    said: list[str] = field(default_factory=list)


def play(plan: Plan, record: Tap = lambda recorded: None) -> Outcome:
    """Plays a plan to its end. ``record`` is called with every message that the cloud's broker has."""

    outcome = Outcome([])

    async def main(loop: VirtualLoop) -> None:
        await _Run(loop, plan, record, outcome).play()

    try:
        run_virtually(main)
    except Stuck as error:
        outcome.violations.append(Violation("a_run_settles", str(error)))
    except Exception as error:  # whatever it is, the seed that leads to it shall be told
        outcome.violations.append(Violation("a_run_can_be_judged", "".join(traceback.format_exception(error))))
    return outcome


class _Run:
    def __init__(self, loop: VirtualLoop, plan: Plan, record: Tap, outcome: Outcome) -> None:
        self._loop = loop
        self._plan = plan
        self._record = record
        self._hash = hashlib.sha256()
        self._outcome = outcome
        self._over = False
        self._samples = draw_samples([each.name for each in plan.edges], plan.seed)
        edges = [EdgeSpec(each.name, each.speed, each.latency) for each in plan.edges]
        loop.disk_seconds = plan.disk_seconds
        loop.most_turns = TURNS
        self._cluster = VirtualCluster(loop, edges, Computing(self._samples), _number(plan.seed), self._tap, self._say)
        self._place = str(self._cluster.directory).encode()
        self._watching = Watching(self._cluster)
        self._devices = Devices(self._cluster, plan.edges)
        loop.set_exception_handler(lambda _, context: self._watching.failed(context))
        for edge in self._cluster.edges:
            self._cluster.node(edge).taps.append(lambda message: self._count(message.topic, message.body))

    async def play(self) -> None:
        cluster, plan, world = self._cluster, self._plan, self._cluster.world
        await cluster.start()
        try:
            await self._devices.start()
            async with cluster.client() as bus:
                follower = Follower(bus)
                following = asyncio.create_task(follower.run())
                working = [asyncio.create_task(self._ask_for(bus, job)) for job in plan.jobs]
                inflicting = Inflicting(cluster, {each.name: each for each in plan.edges}, self._devices)
                await inflicting.run(plan.faults)
                await world.sleep(max(0.0, plan.end - world.monotonic()))
                finishing = asyncio.create_task(self._devices.finish(SETTLE))
                await finishing
                never = await self._settle(bus)
                self._outcome.seconds = world.monotonic()
                await cancel_and_wait(*working)
                if never:
                    found = [Violation("a_run_settles", f"after {SETTLE:g} s it waits for: {each}") for each in never]
                    self._outcome.violations += found
                else:
                    evidence = await self._evidence(bus, follower)
                    self._outcome.violations += check(evidence)
                    self._outcome.rounds = len(evidence.records)
                self._outcome.violations += [*self._broken(), *self._watching.violations, *ends_as_desired(cluster)]
                await cancel_and_wait(following)
        finally:
            self._over = True  # what is dropped from now on may still say things
            await cluster.stop()
        self._outcome.digest = self._hash.hexdigest()

    async def _settle(self, bus: Bus) -> list[str]:
        """Waits until nothing is waited for any more; returns what has not come."""
        world = self._cluster.world
        deadline = world.monotonic() + SETTLE
        try:
            async with asyncio.timeout(SETTLE):
                await self._asked(bus, "edges", "list", {})
        except TimeoutError:
            return ["a coordinator that leads"]
        await world.sleep(LOOK_EVERY)  # one that has just begun to lead writes its documents first
        while left := [*waits_for(self._cluster, self._plan, self._devices)]:
            if world.monotonic() >= deadline:
                return left
            await world.sleep(LOOK_EVERY)
        return []

    async def _evidence(self, bus: Bus, follower: Follower) -> Evidence:
        evidence = await collect(bus, self._devices.lives, self._samples, LAST)
        newest = evidence.telemetry[-1].sequence if evidence.telemetry else 0
        evidence.followed = await follower.reach(newest, LAST)
        evidence.jobs = [await self._asked(bus, "jobs", "get", {"name": job.name}) for job in self._plan.jobs]
        return evidence

    def _broken(self) -> list[Violation]:
        gc.collect(0)  # a task that nobody awaits tells of its exception only when it goes
        return [Violation("nothing_ended_by_itself", each) for each in self._cluster.worker_failures]

    async def _ask_for(self, bus: Bus, job: Job) -> None:
        world = self._cluster.world
        await world.sleep(max(0.0, job.at - world.monotonic()))
        await self._asked(bus, "models", "create", {"kind": "Model", "metadata": {"name": job.name}})
        await self._asked(bus, "jobs", "create", task_of(job, [each.name for each in self._plan.edges]))

    async def _asked(self, bus: Bus, plural: str, verb: str, document: Mapping[str, Any]) -> Any:
        """Asks until there is an answer: the coordinator may be away."""
        while True:
            try:
                body = json.dumps(document).encode()
                reply = await bus.request(REQUEST.at(resource=plural, verb=verb), body, ANSWER_WITHIN)
                return result_of(reply.body)
            except Refused:
                raise
            except HeliographError:
                await self._cluster.world.sleep(AGAIN)

    def _say(self, process: str, line: str) -> None:
        if self._over:
            return
        self._outcome.said.append(f"{self._loop.time():9.3f} s  {process}: {line}")
        self._watching.said(process, line)

    def _tap(self, recorded: Recorded) -> None:
        self._count(recorded.topic, recorded.body)
        if not self._over:
            self._record(recorded)

    def _count(self, topic: str, body: bytes) -> None:
        if self._over:
            return
        self._outcome.messages += 1
        body = body.replace(self._place, b"")  # the only thing that is another in each run
        self._hash.update(f"{self._loop.time():.9f} {topic} {len(body)} ".encode() + body)


def task_of(job: Job, edges: list[str]) -> dict[str, Any]:
    """The job's document."""
    worker = {"trainScriptBootFile": SCRIPT, "parameters": [{"key": "size", "value": size_of(job.name)}]}
    spec: dict[str, Any] = {
        "aggregationWorker": {"model": {"name": job.name}},
        "trainingWorkers": [{"name": edge, "nodeName": edge, "workerSpec": worker} for edge in edges],
        "participants": {"count": job.participants} if job.participants else {"all": True},
        "rounds": job.rounds,
        "roundDeadlineSeconds": job.deadline,
    }
    if job.quorum is not None:
        spec["quorum"] = job.quorum
    return {"kind": "FederatedTask", "metadata": {"name": job.name}, "spec": spec}


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big")
