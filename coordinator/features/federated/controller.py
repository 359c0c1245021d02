"""The controller of federated tasks: from closed rounds, evaluations and edges to steps of their state machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract import buckets, close_record, topics
from heliograph.bus.contract.payloads import Aggregation, WorkerTask
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.request_bodies import Named
from heliograph.bus.contract.resources import ENDED, FederatedTask, Model
from heliograph.bus.contract.topics import Topic
from heliograph.bus.port import Received
from heliograph.bus.transport import Message
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.federated import questions, steps
from heliograph.coordinator.features.federated import state_machine as federated
from heliograph.coordinator.features.federated.allowed_changes import check_change, check_restart
from heliograph.coordinator.features.federated.closed_rounds import HeldRounds, is_believed, signing_keys
from heliograph.coordinator.features.federated.deadlines import next_look
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.features.federated.evaluations import check_sender
from heliograph.coordinator.features.federated.least_updates import check_least_updates
from heliograph.coordinator.features.federated.notifications import EndNotifications
from heliograph.coordinator.features.federated.participants import Participants
from heliograph.coordinator.features.federated.participation.strategies import check_selection
from heliograph.coordinator.features.federated.participation_memory import ParticipationMemory
from heliograph.coordinator.features.federated.results import Results
from heliograph.coordinator.features.federated.resuming import restart
from heliograph.coordinator.features.federated.round_hints import RoundHints
from heliograph.coordinator.features.federated.round_leftovers import RoundLeftovers
from heliograph.coordinator.features.federated.round_records import RoundRecords
from heliograph.coordinator.features.federated.training_cache import CachedTraining, cached_training
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.superfluous import Superfluous
from heliograph.coordinator.packages import check_parameters
from heliograph.core.breaks import Breaks
from heliograph.core.errors import Refused
from heliograph.core.telemetry import ROUNDS_CLOSED


class FederatedController(Feature[FederatedTask]):
    """Begins and steps federated tasks, registers their results, and writes their workers' tasks."""

    async def prepare(self) -> None:
        """Open the close records, and find the first evaluation in its stream that may still be awaited."""
        self._port = self.context.port
        self._world = self._port.world
        bus = self._port.bus
        rounds = await bus.kv(buckets.ROUNDS)
        self._records = RoundRecords(rounds, self.context.store, self._world)
        self._results = Results(bus, self.context.store, rounds, self.context.versions)
        self._leftovers = RoundLeftovers(bus, rounds, self._results.in_use, self.context.failures)
        self._participants = Participants(self.context, self._begin_joined)
        self._ends = EndNotifications(self.context)
        self._hints = RoundHints(self._port, self.context.let_fetch)
        self._training: dict[str, CachedTraining] = {}
        self._desired: dict[str, dict[str, list[WorkerTask]]] = {}
        """By uid, the newest desired tasks of each edge."""
        self._memory = ParticipationMemory(rounds, self.context.warn)
        self._held = HeldRounds()
        self._decided: dict[str, tuple[FederatedTask, View, str]] = {}
        """Tasks that the newest decision has not changed, with the view that it was made on, and the time at which to
        decide again even so; empty for none."""
        self._round_closed = self._world.telemetry.counter(ROUNDS_CLOSED)
        newest = await self._last_sequence(topics.EVALUATION)
        self._evaluations_from = min((task.status.evaluations_from for task in self._running()), default=newest + 1)

    def parts(self) -> Sequence[Part]:
        return self._follow_aggregations, self._follow_evaluations, self._announce_missed_ends, self._leftovers.run

    @property
    def busy(self) -> bool:
        """Whether a job is pending or runs."""
        return any(task.status.phase not in ENDED for task in self.resources())

    def validate(self, task: FederatedTask, topic: str) -> None:
        algorithm, place = task.spec.aggregation_worker.worker_spec, "spec.aggregationWorker.workerSpec"
        choice = NamedChoice("algorithm", algorithm.aggregation_algorithm, f"{place}.aggregationAlgorithm",
                      algorithm.parameters, f"{place}.parameters")  # fmt: skip
        view = self.context.view()
        offered = view.algorithms(task.spec.aggregation_worker.node_name)
        check_offered(choice, offered, topic)
        check_least_updates(task, offered.get(algorithm.aggregation_algorithm, {}), topic)
        check_parameters(task, view.packages, topic)
        check_selection(task, topic)

    def may_change(self, known: FederatedTask, wanted: FederatedTask, topic: str) -> None:
        check_change(known, wanted, topic)

    def steer(self, task: FederatedTask, verb: str, topic: str) -> FederatedTask:
        match verb:
            case "stop":
                return steps.stop(task, self.context.port.world.timestamp())
            case "start":
                return self._restarted(task, topic)
        return super().steer(task, verb, topic)

    def _restarted(self, task: FederatedTask, topic: str) -> FederatedTask:
        """Return an ended task as a new run, under a new uid: nothing of the earlier run reaches it."""
        check_restart(task, topic)
        if task.status.phase not in ENDED:
            return task
        model = self.context.store.get(Model, task.spec.aggregation_worker.model.name)
        uid = self.context.port.world.new_uid(f"{task.plural}.{task.name}")
        return restart(task, uid, model.status.unfinished if model is not None else ())

    async def steering(self, task: FederatedTask, steered: FederatedTask) -> None:
        if task.status.phase == "Running" and _ends(task, steered):
            await self._end(steered)
        if task.metadata.uid != steered.metadata.uid:
            if steered.status.resumed_round:
                await self._memory.carry(task, steered.metadata.uid)
            await self._results.free_last_rounds(task)
            await self._records.delete_of(task)

    async def answer(
        self, verb: str, body: BaseModel, resource: FederatedTask | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        assert resource is not None
        if declared().features[FederatedTask.plural].own_verbs[verb].participants:
            return await self._participants.answer(resource, body, caller)
        assert isinstance(body, Named)
        return questions.answer(resource, verb, body, self.context.view())

    async def _begin_joined(self) -> None:
        """Act on somebody who has joined: a pending task may begin, and a running one has another worker."""
        await self.reconcile()
        await self.context.write_desired()

    async def _announce_missed_ends(self) -> None:
        await self._ends.announce_missed(self.resources())

    async def _follow_aggregations(self) -> None:
        async with self._port.subscribe(topics.AGGREGATION, lambda error: self.context.warn(str(error))) as received:
            async for each in received:
                with self.context.failures.contain(each.message.topic):
                    _check_job(each.payload.job, each.params["job"], each.message.topic)
                    await self._close_believed(each)

    async def _follow_evaluations(self) -> None:
        """Take evaluations until cancelled, also those that came while nobody led: they are not sent again."""
        async with self._port.bus.consume(topics.EVALUATION.filter(), start=self._evaluations_from) as messages:
            async for message in messages:
                with self.context.failures.contain(message.topic):
                    await self._take_evaluation(message)
                self._evaluations_from = message.sequence + 1

    async def reconcile(self) -> None:
        """Begin pending tasks, and step running ones after a change of presence or reports, or once a round's deadline
        has passed. Pass over a task if neither it nor the view has changed since it was last decided on: thousands may
        wait."""
        for held in self._held.take():  # a report may have brought their keys
            with self.context.failures.contain(held.message.topic):
                await self._close_believed(held)
        breaks, start = Breaks(self._world), (0, 0)
        decided: dict[str, tuple[FederatedTask, View, str]] = {}
        for task in self.resources():
            if task.status.phase in ENDED:
                continue
            view, now = self.context.view(), self._world.timestamp()
            known = self._decided.get(task.name)
            if known is not None and known[0] is task and known[1] is view and not "" < known[2] <= now:
                decided[task.name] = known
                continue
            if task.status.phase == "Pending" and start == (0, 0):  # an earlier start than necessary does no harm
                updates, evaluations = topics.MODEL_UPDATE, topics.EVALUATION
                start = (await self._last_sequence(updates) + 1, await self._last_sequence(evaluations) + 1)

            def decide(
                task: FederatedTask, view: View = view, now: str = now, start: tuple[int, int] = start
            ) -> FederatedTask:
                memory = self._memory.known(task)
                return federated.observe(federated.begin(task, view, now, *start, memory), view, now, memory)

            with self.context.failures.contain(f"job {task.name}"):
                await self._memory.read(task)
                if not await self._step(task.name, decide):
                    decided[task.name] = task, view, next_look(task, now)
            await breaks.take()
        self._decided = decided

    async def catch_up(self) -> None:
        """Read the close record of each present round: its event may have been lost."""
        for task in self._running():
            if (found := await self._records.present(task)) is not None:
                key, record = found
                with self.context.failures.contain(f"job {task.name}, close record {key}"):
                    if is_believed(record, signing_keys(task, self.context.view())):
                        await self._close_round(close_record.load(record))

    def desired(self, view: View) -> Iterator[dict[str, list[WorkerTask]]]:
        training: dict[str, CachedTraining] = {}
        newest: dict[str, dict[str, list[WorkerTask]]] = {}
        for task in self._running():
            found = self._desired.get(task.metadata.uid, {})  # a defect stops no running worker
            with self.context.failures.contain(f"job {task.name}"):
                for known in cached_training(task, view, self._training.get(task.name)):  # noqa: B007 the last one counts
                    yield {}  # the caller may take a break
                training[task.name] = known
                found = desired_tasks(task, view, known.tasks)
            newest[task.metadata.uid] = found
            yield found
        self._training, self._desired = training, newest

    async def removed(self, task: FederatedTask) -> None:
        """Delete the task's close records, and the edges' own models; tell the end of a task that had none."""
        if task.status.phase not in ENDED:
            self.context.background.spawn(self._ends.announce(task))
        await self._results.free_own(task)
        await self._records.delete_of(task)

    async def used_blobs(self, gone: Collection[str] = ()) -> set[str]:
        return await self._results.used_blobs()

    async def superfluous(self, lives: Lives, used: Collection[str]) -> Sequence[Superfluous]:
        return await self._records.superfluous(lives)

    async def _take_evaluation(self, message: Message) -> None:
        """Take an evaluation from the node of the job's evaluation worker. Raise Refused for any other."""
        received = self._port.read(topics.EVALUATION, message)
        evaluation, name = received.payload, received.params["job"]
        _check_job(evaluation.job, name, message.topic)
        task = self.context.store.get(FederatedTask, name)
        if task is None:
            return  # the job was deleted
        check_sender(task, received.params["edge"], message.topic)
        now = self._world.timestamp()
        await self._advance(name, lambda task: federated.evaluate(task, evaluation, now))

    async def _close_believed(self, received: Received[Aggregation]) -> None:
        """Take a closed round whose job is known. Raise Refused if it is not of the job's aggregation worker."""
        task = self.context.store.get(FederatedTask, received.payload.job)
        if task is not None and self._held.believes(received, signing_keys(task, self.context.view())):
            await self._hints.tell(received.payload, self._training_edges(received.payload.job_uid))
            await self._close_round(received.payload)

    async def _close_round(self, closed: Aggregation) -> None:
        if (task := self.context.store.get(FederatedTask, closed.job)) is not None:
            await self._memory.take(task, closed)
        view, now = self.context.view(), self._world.timestamp()
        decide = partial(self._after_close, closed, view, now)
        if await self._advance(closed.job, decide):
            self._round_closed(1)
            self._leftovers.free_soon(closed)

    def _after_close(self, closed: Aggregation, view: View, now: str, task: FederatedTask) -> FederatedTask:
        return federated.close(task, closed, view, now, self._memory.known(task))

    async def _advance(self, name: str, decide: Callable[[FederatedTask], FederatedTask]) -> bool:
        """Return whether the task changed."""
        changed = await self._step(name, decide)
        await self.context.write_desired()
        return changed

    async def _step(self, name: str, decide: Callable[[FederatedTask], FederatedTask]) -> bool:
        """Return whether the task changed."""
        async def first(before: FederatedTask, after: FederatedTask) -> None:
            await self._results.keep_best(before, after)
            if _ends(before, after):
                await self._end(after)

        step = await self.context.step(FederatedTask, name, decide, first)
        if step is None or step[1] is step[0]:
            return False
        before, after = (each.status for each in step)
        if after.phase not in ENDED:
            if before.best is not None and before.best != after.best:
                self._leftovers.free_later(step[1].metadata.uid, before.best.model.digest)
            if before.state is not None and before.state != after.state:
                self._leftovers.free_later(step[1].metadata.uid, before.state.digest)
        return True

    async def _end(self, task: FederatedTask) -> None:
        """Register the model of a task that is about to end, before its end is shown: its model is there by then."""
        await self._results.register(task, self.context.view())
        self.context.background.spawn(self._free_once_ended(task))

    async def _free_once_ended(self, task: FederatedTask) -> None:
        """Free what the task's last rounds left, once its end is stored: whoever stores it has the lock until then."""
        async with self.context.lock(FederatedTask.plural, task.name):
            stored = self.context.store.get(FederatedTask, task.name)
        if stored is None or stored.metadata.uid != task.metadata.uid or stored.status.phase not in ENDED:
            return  # another decision came first: its own end follows
        self.context.out(f"job {task.name} {stored.status.phase.lower()}")
        await self._ends.announce(stored)
        self._memory.forget(stored.metadata.uid)
        await self._results.free(self._leftovers.forget(stored.metadata.uid))
        await self._results.free_last_rounds(stored)

    def _training_edges(self, uid: str) -> list[str]:
        """Return the edges whose tasks of a job need its newest model as a file."""
        return [edge for edge, tasks in self._desired.get(uid, {}).items()
                if any(task.reads_model_file for task in tasks)]  # fmt: skip

    def _running(self) -> list[FederatedTask]:
        return [task for task in self.resources() if task.status.phase == "Running"]

    async def _last_sequence(self, topic: Topic[Any]) -> int:
        return await self._port.bus.last_sequence(topic.stream_name)


def _check_job(name: str, expected: str, topic: str) -> None:
    """Raise Refused for a payload that names another job than its topic."""
    if name != expected:
        raise Refused("invalid", topic=topic, field="job", expected=expected, got=name)


def _ends(before: FederatedTask, after: FederatedTask) -> bool:
    return after.status.phase in ENDED and before.status.phase not in ENDED
