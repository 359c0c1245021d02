"""The demo of incremental learning: edges answer what they know, what they are unsure of is labelled and learned."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.weights_file import write
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.names import CLOUD
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World
from heliograph.local.cluster import LocalCluster
from heliograph.local.demo.incremental import documents
from heliograph.local.demo.incremental.devices import Devices
from heliograph.local.demo.incremental.measuring import measure, measure_file, without_replay
from heliograph.local.demo.incremental.network import RATE, new_weights, train
from heliograph.local.demo.incremental.oracle import Oracle
from heliograph.local.demo.incremental.screen import Accuracies, DemoDisplay, RoundRow
from heliograph.local.demo.incremental.stream import KNOWN, Digits, key_of, load, write_seed
from heliograph.local.follow_job import LEADER_TIMEOUT

GOAL, MOST_LABELLED, MOST_FORGOTTEN = 0.93, 0.35, 0.03
TOO_FAST, TOO_FAST_IN = 50.0, 3
"""The rate of learning that is tried by mistake, and the round in which it is."""
SHOW_EVERY = 0.25
MORE_HARD, CALM_SHOWS = 10, 6
"""Hard images that may still come, where no round has begun though nothing is labelled any more."""
SCRIPTS = Path(__file__).parent
LAST_ROUND = 20.0
"""Seconds that the demo waits for a round under way when the stream has ended."""


@dataclass(frozen=True)
class Options:
    """The options of the demo."""

    directory: Path
    edges: int = 2
    seed: int = 1


@dataclass
class Outcome:
    """The demo's outcome.

    Attributes:
        first, last: accuracies of the first version, and of the one that serves in the end.
        forgetful: accuracies after the same labels without replay.
        shortcomings: sentences about unmet goals.
    """

    seen: int = 0
    labelled: int = 0
    errors: int = 0
    refused: int = 0
    rolled_back: bool = False
    first: Accuracies | None = None
    last: Accuracies | None = None
    forgetful: Accuracies | None = None
    rows: list[RoundRow] = field(default_factory=list)
    shortcomings: list[str] = field(default_factory=list)


async def run(options: Options, display: DemoDisplay, world: World) -> Outcome:
    """Run the demo and stop all its processes. Raise HeliographError if it cannot be run."""
    display.doing("a first model learns 200 images of the digits 0 to 4")
    digits = await world.in_thread(load, options.seed)
    first = await world.in_thread(_first_model, digits, options.seed)
    seed = await world.in_thread(write_seed, digits, options.directory / "data")
    edges = [f"edge-{number + 1}" for number in range(options.edges)]
    cluster = LocalCluster(
        options.directory / "cluster", edges, datasets={CLOUD: {documents.SEED: seed}}, code=(SCRIPTS,), world=world,
        log=options.directory / "log.txt", supervise=lambda line: display.note(line, good=False),
    )  # fmt: skip
    display.doing(f"starting broker, coordinator and {len(edges) + 1} agents")
    async with cluster, AsyncClient(cluster.server, leader_timeout=LEADER_TIMEOUT) as client:
        run = _Run(cluster, client, digits, first, edges, display, options, world)
        await run.prepare()
        await run.stream()
        await run.roll_back()
        outcome = run.outcome
    outcome.forgetful = await world.in_thread(
        without_replay, first, run.oracle.labels, documents.NEW_SAMPLES, digits, options.seed
    )
    outcome.shortcomings = shortcomings(outcome)
    return outcome


class _Run:
    """One run: the parts that run beside each other while the stream goes."""

    def __init__(
        self, cluster: LocalCluster, client: AsyncClient, digits: Digits, first: dict[str, Any], edges: list[str],
        display: DemoDisplay, options: Options, world: World,
    ) -> None:  # fmt: skip
        truth = {key_of(x): int(y) for x, y in zip(*digits.stream, strict=True)}
        self.outcome = Outcome(first=measure(first, digits))
        self.oracle = Oracle(client, truth, lambda line: display.note(line), world)
        self._client = client
        self._digits = digits
        self._first = first
        self._edges = edges
        self._display = display
        self._directory = options.directory
        self._devices = Devices(cluster, edges, *digits.stream, world)
        self._world = world
        self._serving = self.outcome.first
        self._rate_set = False
        self._under_way = False

    async def prepare(self) -> None:
        """Create the documents, and wait until every edge serves the first model."""
        client, display = self._client, self._display
        display.doing("the edges load the first model")
        weights = write(self._first, self._directory / "first")
        await client.models.create(documents.model(weights))
        await client.labels.create(documents.queue(KNOWN, 1))
        await client.incremental_jobs.create(documents.job(RATE))
        await client.services.create(documents.service(self._edges))
        async with asyncio.timeout(60):
            async for document in client.services.watch(documents.NAME):
                ready = [each for each in document["status"]["conditions"] if each["type"] == "Ready"]
                if ready and f"{len(self._edges)} of {len(self._edges)} edges" in ready[0]["message"]:
                    return

    async def stream(self) -> None:
        """Send the stream, label, and follow the job, until the stream and its last round have ended."""
        beside = [asyncio.create_task(part()) for part in (self.oracle.run, self._follow_job, self._show,
                                                             self._devices.repeat)]  # fmt: skip
        sending = asyncio.create_task(self._devices.run())
        try:
            done, _ = await asyncio.wait((sending, *beside), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._last_round()
        finally:
            await cancel_and_wait(sending, *beside)
        self._count()

    async def roll_back(self) -> None:
        """Go back one version, as a person would, and forward again."""
        versions = await self._client.models.versions(documents.NAME)
        newest = versions["deployed"]
        await self._client.models.rollback(documents.NAME)
        earlier = await self._wait_served(lambda number: number != newest)
        self._display.note(f"heliograph rollback models/{documents.NAME}: version {earlier} serves on every edge")
        self.outcome.rolled_back = True
        await self._client.models.alias(documents.NAME, "champion", newest)
        await self._wait_served(lambda number: number == newest)
        self._display.note(f"heliograph models alias {documents.NAME} champion {newest}: and forward again")

    async def _wait_served(self, wanted: Any) -> int:
        async with asyncio.timeout(30):
            while True:
                serving = await self._served()
                numbers = set(serving.values())
                if len(serving) == len(self._edges) and len(numbers) == 1 and wanted(*numbers):
                    return int(numbers.pop())
                await self._world.sleep(0.1)

    async def _served(self) -> dict[str, int]:
        deployment = await self._client.models.deployment(documents.NAME)
        found = {each["edge"]: each["runningVersion"] for each in deployment["edges"] if "runningVersion" in each}
        self._display.serving({edge: f"version {number}" for edge, number in found.items()})
        return found

    async def _follow_job(self) -> None:
        known, was_under_way = 0, False
        async for document in self._client.incremental_jobs.watch(documents.NAME):
            status = document["status"]
            step, round = status["loop"]["step"], status["loop"]["round"]
            self._display.step(round, step, status["waiting"])
            under_way = step in ("training", "evaluating", "canary")
            if under_way:
                self._devices.running.clear()
            elif was_under_way:
                self._devices.allow(max(MORE_HARD, documents.NEW_SAMPLES - status["waiting"]))
            was_under_way = self._under_way = under_way
            self._devices.on_trial.set() if step == "canary" else self._devices.on_trial.clear()
            for ended in status["rounds"][known:]:
                await self._take_round(ended)
            known = len(status["rounds"])
            await self._served()

    async def _take_round(self, ended: Mapping[str, Any]) -> None:
        """Measure what serves after a round, and show it."""
        result = ended["models"][documents.NAME]
        before = self._serving
        assert before is not None
        if result["decision"] == "deployed":
            file = self._directory / f"round-{ended['round']}.safetensors"
            await self._client.download(documents.NAME, file, result["version"])
            self._serving = self.outcome.last = measure_file(file, self._digits)
        else:
            self.outcome.refused += 1
            self._display.note(f"round {ended['round']}: {result['reason']}", good=False)
        assert self._serving is not None
        counted = self._devices.counted
        row = RoundRow(
            ended["round"], self._part(), len(self.oracle.labels), counted.sent, result["decision"],
            result.get("version"), before, self._serving,
        )  # fmt: skip
        self.outcome.rows.append(row)
        self._display.ended(row)
        if ended["round"] + 1 == TOO_FAST_IN and not self._rate_set:
            self._rate_set = True
            self._display.note(f"by mistake somebody sets the rate of learning to {TOO_FAST:g}", good=False)
            await self._client.incremental_jobs.update(documents.job(TOO_FAST))
        elif self._rate_set and ended["round"] == TOO_FAST_IN:
            await self._client.incremental_jobs.update(documents.job(RATE))
            self._display.note(f"the rate of learning is {RATE:g} again")

    async def _show(self) -> None:
        calm, labelled = 0, 0
        while True:
            calm = calm + 1 if not self._devices.running.is_set() and len(self.oracle.labels) == labelled else 0
            labelled = len(self.oracle.labels)
            if calm >= CALM_SHOWS and not self._under_way:  # some images have come before: a few more are needed
                calm = 0
                self._devices.allow(MORE_HARD)
            counted = self._devices.counted
            self._display.stream(self._part(), counted.sent, len(self._digits.parts), len(self.oracle.labels),
                                 counted.right)  # fmt: skip
            await self._world.sleep(SHOW_EVERY)

    async def _last_round(self) -> None:
        """Wait for a round under way."""
        try:
            async with asyncio.timeout(LAST_ROUND):
                while True:
                    document = await self._client.incremental_jobs.get(documents.NAME)
                    rounds, loop = document["status"]["rounds"], document["status"]["loop"]
                    if loop["step"] == "waiting" and len(rounds) == len(self.outcome.rows):
                        return
                    await self._world.sleep(SHOW_EVERY)
        except TimeoutError:
            raise HeliographError(f"the last round has not ended within {LAST_ROUND:g} s") from None

    def _part(self) -> str:
        sent = self._devices.counted.sent
        return self._digits.parts[min(sent, len(self._digits.parts) - 1)]

    def _count(self) -> None:
        counted, outcome = self._devices.counted, self.outcome
        outcome.seen, outcome.errors, outcome.labelled = counted.sent, counted.errors, len(self.oracle.labels)


def shortcomings(outcome: Outcome) -> list[str]:
    """Return a sentence about each unmet goal."""
    found = []
    first, last = outcome.first, outcome.last
    if last is None or first is None:
        return ["no round was deployed"]
    if last.overall < GOAL:
        found.append(f"the last version gets {last.overall:.3f} right, below the goal of {GOAL}")
    if outcome.labelled > MOST_LABELLED * outcome.seen:
        found.append(f"{outcome.labelled} of {outcome.seen} images were labelled, more than {MOST_LABELLED:.0%}")
    if first.known - last.known > MOST_FORGOTTEN:
        found.append(f"of the first digits {first.known:.3f} were right and {last.known:.3f} are")
    if not outcome.refused:
        found.append("no candidate was refused")
    if outcome.errors:
        found.append(f"{outcome.errors} requests were answered by an error")
    return found


def _first_model(digits: Digits, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    weights = new_weights(KNOWN, rng)
    train(weights, *digits.seed, rng)
    return weights
