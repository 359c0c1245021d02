"""Follow a federated job, and write its rounds where people look for them.

The job's document tells which rounds there are; what they were, the cloud's streams have whole and the document in
part. So a lost message delays a round, and hides none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from heliograph.bus.contract.registry import declared
from heliograph.client import AsyncClient
from heliograph.core.backoff import Backoff
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.tracking.closed_round import ClosedRound, evaluations_in, from_status, totals_in
from heliograph.tracking.run_writer import JobFacts, RunWriter
from heliograph.tracking.stored_rounds import StoredRounds
from heliograph.tracking.tracked_run import TrackedRun

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Bounds of the pauses after which a cluster, or a place, that cannot be reached is tried again."""
LONGEST_PARAMETER = 500
"""Characters of a parameter's value."""
DELETED = "Deleted"
"""Phase of a job that was deleted while it was tracked."""


class Tracker:
    """Writes the rounds of one job.

    Args:
        note: told what a person should know.

    Attributes:
        runs: a run for each place, once the job has been read.
    """

    def __init__(
        self, client: AsyncClient, job: str, writers: Sequence[RunWriter], world: World, note: Callable[[str], None]
    ) -> None:
        self.runs: list[TrackedRun] = []
        self._client = client
        self._job = job
        self._writers = writers
        self._world = world
        self._note = note
        self._series = ""
        self._ahead: list[ClosedRound] = []
        """Rounds that the streams have and no document yet. The one that fails a job never gets there, and may be
        played again when the job is started again."""
        self._backoff = Backoff(world.rng.random, FIRST_PAUSE, LONGEST_PAUSE)

    async def run(self) -> str:
        """Track until the job has ended and all is written. Return its last phase, or ``DELETED``.

        Whatever is not reached any more is waited for: the cluster, and a server that the values go to.

        Raises:
            Refused: if there is no such job.
            Unreachable: if cluster or server cannot be reached from the start.
            HeliographError: if a place cannot be written.
        """
        phase = ""
        try:
            phase = await self._until_ended()
        finally:
            for each in self.runs:
                await self._world.in_thread(each.close, phase)
        return phase

    async def _until_ended(self) -> str:
        said = ""
        while True:
            try:
                return await self._follow()
            except Refused as error:
                if error.code != "not-found" or not self._series:
                    raise
                return DELETED
            except Unreachable as error:
                if not self._series:
                    raise
                if str(error) != said:
                    said = str(error)
                    self._note(f"{said}; waiting")
                await self._world.sleep(self._backoff.next())
                for each in self.runs:
                    if each.broken:
                        await self._reopened(each)

    async def _reopened(self, run: TrackedRun) -> None:
        while True:
            try:
                await self._world.in_thread(run.open)
                return
            except Unreachable:
                await self._world.sleep(self._backoff.next())

    async def _follow(self) -> str:
        """Follow the job until it has ended and return its phase. Raise Unreachable where that breaks off."""
        ended = declared().features["jobs"].ended
        stored: StoredRounds | None = None
        self._ahead = []  # a new reader begins with the first round again
        async with aclosing(self._client.jobs.watch(self._job)) as documents:  # type: ignore[type-var]
            async for document in documents:
                facts = facts_of(document)
                if not self._series:
                    await self._begin(facts)
                elif facts.series != self._series:  # deleted meanwhile, and made again
                    return DELETED
                if stored is None:
                    uid = document["metadata"].get("uid", "")
                    stored = StoredRounds(self._client.bus, self._job, uid, _evaluating_node(document))
                await self._catch_up(document, stored)
                self._backoff.reset()
                if (phase := document["status"]["phase"]) in ended:
                    return str(phase)
        return DELETED

    async def _begin(self, facts: JobFacts) -> None:
        self.runs = [TrackedRun(each, facts) for each in self._writers]
        for each in self.runs:
            await self._world.in_thread(each.open)
            self._note(f"job/{self._job} is tracked: {each.place}")
        self._series = facts.series

    async def _catch_up(self, document: Mapping[str, Any], stored: StoredRounds) -> None:
        """Write what the streams have, and at its place in the order what they lack and the document has."""
        now, totals = self._world.now(), totals_in(document)
        shown = from_status(document, now)
        newest = shown[-1].number if shown else 0
        ahead, self._ahead = self._ahead, []
        waiting = deque(each for each in shown if any(run.lacks(each.number) for run in self.runs))

        async def take(closed: ClosedRound) -> None:
            for run in self.runs:
                if closed.number > run.newest + 1 and run.lacks(closed.number):
                    self._note(_gap(run.newest + 1, closed.number - 1, run.place))
                await self._world.in_thread(run.take, closed, totals if closed.number == newest else None)

        async def take_stored(closed: ClosedRound) -> None:
            if closed.number > newest:
                self._ahead.append(closed)
                return
            while waiting and waiting[0].number <= closed.number:
                if (earlier := waiting.popleft()).number < closed.number:
                    await take(earlier)
            await take(closed)

        async def take_evaluation(number: int, metrics: Mapping[str, float], time: float) -> None:
            for run in self.runs:
                if run.lacks_evaluation(number):
                    await self._world.in_thread(run.take_evaluation, number, metrics, time)

        for closed in ahead:
            await take_stored(closed)
        async with aclosing(stored.new()) as new:  # type: ignore[type-var]
            async for each in new:
                if isinstance(each, ClosedRound):
                    await take_stored(each)
                else:
                    await take_evaluation(each.number, each.metrics, each.time)
        for closed in waiting:
            await take(closed)
        for number, metrics in evaluations_in(document).items():
            await take_evaluation(number, metrics, now)


def facts_of(document: Mapping[str, Any]) -> JobFacts:
    """Return what identifies a job, and what it was given."""
    spec, metadata, status = document["spec"], document["metadata"], document.get("status", {})
    aggregation = spec["aggregationWorker"]
    worker = aggregation.get("workerSpec", {})
    given = {
        "algorithm": worker.get("aggregationAlgorithm", "FedAvg"),
        "rounds": spec.get("rounds"),
        "quorum": spec.get("quorum"),
        "round_deadline_seconds": spec.get("roundDeadlineSeconds"),
        **{f"aggregation.{each['key']}": each.get("value") for each in worker.get("parameters", ())},
    }
    for each in spec["trainingWorkers"][:1]:  # a setting that another one lacks comes from the first
        own = each.get("workerSpec", {})
        given["script"] = own.get("trainScriptBootFile")
        given |= {f"training.{one['key']}": one.get("value") for one in own.get("parameters", ())}
    parameters = {name: str(value)[:LONGEST_PARAMETER] for name, value in given.items() if value is not None}
    series = status.get("firstRun") or metadata.get("uid", "")
    return JobFacts(metadata["name"], series, aggregation["model"]["name"], parameters)


def _evaluating_node(document: Mapping[str, Any]) -> str:
    worker = document["spec"].get("evaluationWorker")
    return str(worker.get("nodeName", CLOUD)) if worker else ""


def _gap(first: int, last: int, place: str) -> str:
    which = f"round {first} is" if first == last else f"rounds {first} to {last} are"
    return f"{which} kept nowhere any more: {place} lacks them, and the sums begin without them"
