"""Playing a plan on a cluster in virtual time, and checking the invariants."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from heliograph.bus.contract.event import with_blank_signature
from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.requester import result_of
from heliograph.simulations.faults.evidence import Evidence, Follower, collect
from heliograph.simulations.faults.invariants import Violation, check
from heliograph.simulations.faults.job_chain import draw_samples, size_of
from heliograph.simulations.fuzz.computing import Computing
from heliograph.simulations.fuzz.devices import Devices
from heliograph.simulations.fuzz.fault_injector import FaultInjector
from heliograph.simulations.fuzz.hostiles import Hostiles
from heliograph.simulations.fuzz.learning_driver import LearningDriver
from heliograph.simulations.fuzz.learning_plan import PUBLIC, SAMPLES
from heliograph.simulations.fuzz.learning_record import LearningRecord
from heliograph.simulations.fuzz.learning_settling import check_all_learning
from heliograph.simulations.fuzz.plan import Job, Plan
from heliograph.simulations.fuzz.settling import unfinished
from heliograph.simulations.fuzz.watcher import Watcher, ends_as_desired
from heliograph.simulations.virtual.loop import Stuck, VirtualLoop
from heliograph.simulations.virtual.loop import run as run_virtually
from heliograph.simulations.virtual.virtual_cluster import SCRIPT, EdgeSpec, VirtualCluster

SETTLE = 300.0
"""Seconds after the last fault within which everything must work again."""
POLL_EVERY = 1.0
RETRY_AFTER = 0.5
REPLY_TIMEOUT = 5.0
CATCH_UP = 30.0
"""Seconds within which a consumer must have read the whole stream at the end."""
TURNS = 300_000
"""Largest number of the event loop's turns; a run usually takes about ten thousand."""
Tap = Callable[[Recorded], None]


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        digest: digest over all messages in the cloud and on the nodes, with their times; equal for equal plans.
        seconds: duration on the run's own clock.
        output: lines printed by the processes, with their times.
    """

    violations: list[Violation]
    digest: str = ""
    seconds: float = 0.0
    messages: int = 0
    rounds: int = 0
    output: list[str] = field(default_factory=list)


def play(plan: Plan, record: Tap = lambda recorded: None) -> Outcome:
    """Play a plan to its end. ``record`` is called with every message of the cloud's broker."""

    outcome = Outcome([])

    async def main(loop: VirtualLoop) -> None:
        await _Run(loop, plan, record, outcome).play()

    try:
        run_virtually(main)
    except Stuck as error:
        outcome.violations.append(Violation("a_run_settles", str(error)))
    except Exception as error:  # any exception is a violation, so that the seed is reported
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
        self._learning = LearningRecord(plan)
        self._cluster = VirtualCluster(
            loop, edges, Computing(self._samples), _number(plan.seed), self._tap, self._say, learning=self._learning,
            datasets={job.node: (SAMPLES, PUBLIC) for job in plan.pairs},
        )  # fmt: skip
        self._directory = str(self._cluster.directory).encode()
        self._watcher = Watcher(self._cluster)
        self._devices = Devices(self._cluster, plan.edges)
        self._hostiles = Hostiles(self._cluster, plan)
        loop.set_exception_handler(lambda _, context: self._watcher.observe_exception(context))
        for edge in self._cluster.edges:
            self._cluster.node(edge).taps.append(lambda message: self._count(message.topic, message.body))

    async def play(self) -> None:
        cluster, plan, world = self._cluster, self._plan, self._cluster.world
        await cluster.start()
        try:
            await self._devices.start()
            await self._hostiles.start()
            async with cluster.client() as bus:
                follower = Follower(bus)
                following = asyncio.create_task(follower.run())
                working = [asyncio.create_task(self._create_job(bus, job)) for job in plan.jobs]
                injector = FaultInjector(cluster, {each.name: each for each in plan.edges}, self._devices)
                acting = asyncio.create_task(self._hostiles.run())
                learning = LearningDriver(cluster, plan, self._learning, bus, partial(self._request, bus))
                working.append(asyncio.create_task(learning.run()))
                await injector.run(plan.faults)
                await acting
                await world.sleep(max(0.0, plan.end - world.monotonic()))
                working.append(asyncio.create_task(learning.finish()))
                finishing = asyncio.create_task(self._devices.finish(SETTLE))
                await finishing
                unsettled = await self._settle(bus)
                self._outcome.seconds = world.monotonic()
                await cancel_and_wait(*working)
                await learning.close()
                if unsettled:
                    texts = [f"after {SETTLE:g} s it waits for: {each}" for each in unsettled]
                    self._outcome.violations += [Violation("a_run_settles", text) for text in texts]
                else:
                    evidence = await self._evidence(bus, follower)
                    self._outcome.violations += check(evidence)
                    self._outcome.rounds = len(evidence.records)
                self._outcome.violations += [*self._worker_failures(), *self._watcher.violations,
                                             *self._learning.violations]
                self._outcome.violations += ends_as_desired(cluster)
                await cancel_and_wait(following)
                await self._hostiles.finish()
        finally:
            self._over = True  # dropped coroutines may still print lines
            await cluster.stop()
        self._outcome.digest = self._hash.hexdigest()

    async def _settle(self, bus: Bus) -> list[str]:
        """Wait until the run has settled; return what it still waits for at the end."""
        world = self._cluster.world
        deadline = world.monotonic() + SETTLE
        try:
            async with asyncio.timeout(SETTLE):
                await self._request(bus, "edges", "list", {})
        except TimeoutError:
            return ["a coordinator that leads"]
        await world.sleep(POLL_EVERY)  # a new leader writes its documents first
        while left := [*unfinished(self._cluster, self._plan, self._devices, self._learning)]:
            if world.monotonic() >= deadline:
                break
            await world.sleep(POLL_EVERY)
        # now: loops may begin further rounds while the evidence is collected
        self._outcome.violations += check_all_learning(self._cluster, self._plan, self._learning)
        return left

    async def _evidence(self, bus: Bus, follower: Follower) -> Evidence:
        evidence = await collect(bus, self._devices.lives, self._samples, CATCH_UP)
        newest = evidence.telemetry[-1].sequence if evidence.telemetry else 0
        evidence.followed = await follower.reach(newest, CATCH_UP)
        evidence.jobs = [await self._request(bus, "jobs", "get", {"name": job.name}) for job in self._plan.jobs]
        return evidence

    def _worker_failures(self) -> list[Violation]:
        gc.collect(0)  # a task that nobody awaits reports its exception when it is collected
        return [Violation("nothing_ended_by_itself", each) for each in self._cluster.worker_failures]

    async def _create_job(self, bus: Bus, job: Job) -> None:
        world = self._cluster.world
        await world.sleep(max(0.0, job.at - world.monotonic()))
        await self._request(bus, "models", "create", {"kind": "Model", "metadata": {"name": job.name}})
        rogues = self._plan.rogues if job.participants is None else ()
        edges = [*(each.name for each in self._plan.edges), *rogues]
        await self._request(bus, "jobs", "create", task_of(job, edges))

    async def _request(self, bus: Bus, plural: str, verb: str, document: Mapping[str, Any]) -> Any:
        """Repeat a request until it is answered, because the coordinator may be down."""
        while True:
            try:
                body = json.dumps(document).encode()
                reply = await bus.request(REQUEST.at(resource=plural, verb=verb), body, REPLY_TIMEOUT)
                return result_of(reply.body)
            except Refused:
                raise
            except HeliographError:
                await self._cluster.world.sleep(RETRY_AFTER)

    def _say(self, process: str, line: str) -> None:
        if self._over:
            return
        self._outcome.output.append(f"{self._loop.time():9.3f} s  {process}: {line}")
        self._watcher.observe_output(process, line)

    def _tap(self, recorded: Recorded) -> None:
        self._count(recorded.topic, recorded.body)
        if not self._over:
            self._record(recorded)

    def _count(self, topic: str, body: bytes) -> None:
        if self._over:
            return
        self._outcome.messages += 1
        if self._directory in body:  # the only part that differs in each run, and a signature that covers it
            body = with_blank_signature(body).replace(self._directory, b"")
        self._hash.update(f"{self._loop.time():.9f} {topic} {len(body)} ".encode() + body)


def task_of(job: Job, edges: list[str]) -> dict[str, Any]:
    """Return a job's document."""
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
