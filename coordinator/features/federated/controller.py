"""Federated tasks: closed rounds, evaluations and changes of the edges in; steps of their state machines out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Aggregation, Evaluation, Task
from heliograph.bus.contract.resources import ENDED, FederatedTask
from heliograph.bus.transport import KeyValue
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.results import Results
from heliograph.core.errors import Refused
from heliograph.core.tasks import Background


@dataclass(frozen=True)
class _Training:
    """The training tasks of one job, those of a round made on top of those that all rounds have, and what both were
    made of."""

    warm_of: tuple[object, ...]
    warm: dict[str, list[Task]]
    tasks_of: tuple[object, ...] = ()
    tasks: dict[str, list[Task]] = field(default_factory=dict)


class Jobs:
    """The controller of federated tasks.

    Args:
        rounds: the close records.
    """

    def __init__(self, shared: ControllerContext, rounds: KeyValue, results: Results, background: Background) -> None:
        self._shared = shared
        self._port = shared.port
        self._world = shared.port.world
        self._rounds = rounds
        self._results = results
        self._background = background
        self._evaluations_from = 1
        self._training: dict[str, _Training] = {}

    async def prepare(self) -> None:
        """From where in their stream evaluations are read."""
        newest = await self._last("EVALUATIONS")
        self._evaluations_from = min((task.status.evaluations_from for task in self._running()), default=newest + 1)

    @property
    def all_ended(self) -> bool:
        """Whether no job waits or runs."""
        return all(task.status.phase in ENDED for task in self._shared.store.all(FederatedTask))

    async def follow_aggregations(self) -> None:
        async with self._port.subscribe(topics.AGGREGATION, lambda error: self._shared.warn(str(error))) as received:
            async for each in received:
                await self._closed(each.payload)

    async def follow_evaluations(self) -> None:
        """Those of the jobs that run, also what came while nobody led: it is not sent again."""
        async with self._port.bus.consume(topics.EVALUATION.filter(), start=self._evaluations_from) as messages:
            async for message in messages:
                try:
                    await self._evaluated(self._port.read(topics.EVALUATION, message).payload)
                except Refused as error:
                    self._shared.warn(str(error))
                self._evaluations_from = message.sequence + 1

    async def look(self) -> None:
        """What the edges' presence and reports mean for each task. The documents that follow from it are the
        caller's to write, once for all tasks."""
        for task in self._shared.store.all(FederatedTask):
            if task.status.phase in ENDED:
                continue
            view, now = self._shared.view(), self._world.timestamp()
            start = (0, 0)
            if task.status.phase == "Pending":
                start = (await self._last("UPDATES") + 1, await self._last("EVALUATIONS") + 1)

            def decide(
                task: FederatedTask, view: View = view, now: str = now, start: tuple[int, int] = start
            ) -> FederatedTask:
                return federated.observe(federated.begin(task, view, now, *start), view, now)

            await self._step(task.name, decide)

    async def catch_up(self) -> None:
        """Closed rounds whose event was lost."""
        for task in self._running():
            entry = await self._rounds.get(f"{task.metadata.uid}.{task.status.round}")
            if entry is not None:
                await self._closed(Aggregation.model_validate_json(entry.value))

    def desired(self, view: View) -> list[dict[str, list[Task]]]:
        """What each edge shall do, for each task."""
        tasks = [task for task in self._shared.store.all(FederatedTask) if task.status.phase == "Running"]
        self._training = {task.name: self._trained(task, view) for task in tasks}
        return [federated.desired_tasks(task, view, self._training[task.name].tasks) for task in tasks]

    def _trained(self, task: FederatedTask, view: View) -> _Training:
        """What the edges train, made anew only where something of it has changed: they may be ten thousand."""
        status, algorithms = task.status, view.algorithms()
        warm_of = (task.metadata.uid, task.spec, algorithms, status.assignments, status.datasets)
        tasks_of = (status.round, status.step, status.model, status.participants)
        known = self._training.get(task.name)
        if known is None or known.warm_of != warm_of:
            known = _Training(warm_of, federated.warm_tasks(task, algorithms))
        if known.tasks_of != tasks_of:
            known = replace(known, tasks_of=tasks_of, tasks=federated.training_tasks(task, known.warm))
        return known

    async def removed(self, task: FederatedTask) -> None:
        """Its close records go with it."""
        for entry in await self._rounds.entries(f"{task.metadata.uid}."):
            await self._rounds.delete(entry.key)

    async def _evaluated(self, evaluation: Evaluation) -> None:
        now = self._world.timestamp()
        await self._advance(evaluation.job, lambda task: federated.evaluate(task, evaluation, now))

    async def _closed(self, closed: Aggregation) -> None:
        view, now = self._shared.view(), self._world.timestamp()
        await self._advance(closed.job, lambda task: federated.close(task, closed, view, now))

    async def _advance(self, name: str, decide: Callable[[FederatedTask], FederatedTask]) -> None:
        await self._step(name, decide)
        await self._shared.write_desired()

    async def _step(self, name: str, decide: Callable[[FederatedTask], FederatedTask]) -> None:
        async def first(before: FederatedTask, after: FederatedTask) -> None:
            if _ends(before, after):  # before anyone is told: who hears of the end finds the model
                await self._results.register(after)

        step = await self._shared.step(FederatedTask, name, decide, first)
        if step is not None and _ends(*step):
            self._shared.out(f"job {name} {step[1].status.phase.lower()}")
            self._background.spawn(self._results.free_last_rounds(step[1]))

    def _running(self) -> list[FederatedTask]:
        return [task for task in self._shared.store.all(FederatedTask) if task.status.phase == "Running"]

    async def _last(self, stream: str) -> int:
        return await self._port.bus.last_sequence(stream)


def _ends(before: FederatedTask, after: FederatedTask) -> bool:
    return after.status.phase in ENDED and before.status.phase not in ENDED
