"""The controller of incremental learning jobs: from labels, candidates and verdicts to rounds and deployed versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import EdgeLoop, WorkerTask
from heliograph.bus.contract.request_bodies import Change
from heliograph.bus.contract.resources import (
    LEARNING_ENDED,
    IncrementalLearningJob,
    JointInferenceService,
    LabelQueue,
    Model,
    Resource,
)
from heliograph.bus.contract.topics import Topic
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.bus.port import Received
from heliograph.coordinator.asks import ask_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.incremental import edge_loops
from heliograph.coordinator.features.incremental import state_machine as jobs
from heliograph.coordinator.features.incremental.labelled_samples import LabelledSamples
from heliograph.coordinator.features.incremental.rounds import Rounds, check_sender
from heliograph.coordinator.packages import check_parameters, names_of, package_of, pinned
from heliograph.core.errors import Refused
from heliograph.core.tasks import Flag, wait_for
from heliograph.incremental import decisions, loop, triggers
from heliograph.incremental.tasks import learn_task

P = TypeVar("P", bound=BaseModel)
BY_HAND = ("training", "evaluation", "deployment")
SHOW_EVERY = 1.0
"""Seconds between two writes of the numbers of samples."""
LOOK_EVERY = 0.1
"""Seconds between two looks at the loops: labels may come by the thousand."""
COUNTED_EVERY = 1.0
"""Seconds after which inference workers tell new counts and drifts."""
CALM = 60.0
"""Seconds after which loops are looked at though nothing is due."""


class IncrementalController(Feature[IncrementalLearningJob]):
    """Begins and steps incremental learning jobs, and writes the tasks of their workers."""

    async def prepare(self) -> None:
        """Open the buckets, and find where the streams go on: candidates may have come while nobody led."""
        self._world = self.context.port.world
        self._wake = Flag()
        self._shown = -SHOW_EVERY
        """When the numbers of samples were last written, in monotonic seconds."""
        self._samples = LabelledSamples(self.context, self._wake)
        await self._samples.prepare()
        self._rounds = Rounds(self.context, self._samples)
        at_work = [job for job in self.resources() if job.status.phase == "Running" and job.status.loop.round]
        self._candidates_from = min((job.status.candidates_from for job in at_work), default=0)
        self._verdicts_from = min((job.status.verdicts_from for job in at_work), default=0)

    def parts(self) -> Sequence[Part]:
        return self._samples.follow, self._follow_candidates, self._follow_verdicts, self._watch_time

    @property
    def busy(self) -> bool:
        return any(job.status.phase == "Running" and job.status.loop.step != "waiting" for job in self.resources())

    # requests

    def validate(self, job: IncrementalLearningJob, topic: str) -> None:
        for name, rule in (("train", job.spec.train), ("evaluate", job.spec.evaluate), ("deploy", job.spec.deploy)):
            if rule is not None:
                triggers.check(rule, f"spec.{name}", topic)
        check_parameters(job, self.context.view().packages, topic)
        queue = self.context.store.get(LabelQueue, job.queue)
        if queue is not None and (why := jobs.unlearnable(queue)) is not None:
            raise Refused("invalid", topic=topic, field="spec.labels", got=f"{queue.name}, which has {why}",
                          expected="a label queue whose labels are one class each (labelSchema.type: choice)",
                          hint="Of a number let labellers choose its range as a class.")  # fmt: skip

    def may_change(self, known: IncrementalLearningJob, wanted: IncrementalLearningJob, topic: str) -> None:
        for field, before, after in (("location", known.spec.location, wanted.spec.location),
                                     ("labels", known.queue, wanted.queue)):  # another place, or queue, is another job
            if before != after:
                raise Refused("fixed", topic=topic, field=f"spec.{field}", expected=f"{before}, as the job was made",
                              got=after, hint="Make another job, under another name.")  # fmt: skip
        if (own := _models(known)) != (other := _models(wanted)):
            raise Refused("fixed", topic=topic, field="spec.models", expected=f"the models {', '.join(own)}",
                          got=", ".join(other), hint="Make another job for another model.")  # fmt: skip

    def steer(self, job: IncrementalLearningJob, verb: str, topic: str) -> IncrementalLearningJob:
        match verb:
            case "stop":
                return jobs.stopped(job, self._world.timestamp())
            case "start":
                return self._started(job, topic)
        return super().steer(job, verb, topic)

    async def steering(self, job: IncrementalLearningJob, steered: IncrementalLearningJob) -> None:
        self._wake.set()

    async def answer(
        self, verb: str, body: BaseModel, resource: IncrementalLearningJob | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        assert resource is not None
        if verb == "models":
            return jobs.learned_models(resource, self.context.view())
        assert verb in BY_HAND and isinstance(body, Change)

        def decide(job: IncrementalLearningJob) -> IncrementalLearningJob:
            body.check(job)
            if job.status.phase in LEARNING_ENDED:
                raise Refused("ended", field="name", expected="a job that has not ended",
                              got=f"{job.name} is {job.status.phase}", hint="Start it first.")  # fmt: skip
            if job.spec.location == "edge":
                return edge_loops.asked(job, verb)
            state = job.status.loop
            if not loop.may_ask(state, verb):  # type: ignore[arg-type]
                raise Refused("too-early", field="name", expected=f"a job with a candidate before its {verb}",
                              got=f"{job.name}, whose round {state.round} is {state.step}" if state.round else
                              f"{job.name}, whose first round has not begun",
                              hint=f"Begin a round: heliograph incremental-jobs training {job.name}.")  # fmt: skip
            return jobs.asked(job, verb)

        if body.dry_run:
            return decide(resource)
        step = await self.context.step(IncrementalLearningJob, resource.name, decide)
        self._wake.set()
        return step[1] if step is not None else resource

    def may_delete(self, other: Resource, topic: str) -> None:
        """Refuse to delete a model, or a queue, that a job needs."""
        for job in self.resources():
            if job.status.phase in LEARNING_ENDED:
                continue
            named = other.name in _models(job) if isinstance(other, Model) else (
                isinstance(other, LabelQueue) and other.name == job.queue
            )  # fmt: skip
            if named:
                what = "a model" if isinstance(other, Model) else "a queue"
                raise Refused("in-use", topic=topic, field="name", expected=f"{what} that no job needs",
                              got=f"{other.name}, which incremental job {job.name} needs",
                              hint="Stop or delete the job first.")  # fmt: skip

    async def removed(self, job: IncrementalLearningJob) -> None:
        await self._samples.forget(job)

    def _started(self, job: IncrementalLearningJob, topic: str) -> IncrementalLearningJob:
        if job.status.phase == "Succeeded":
            raise Refused("ended", topic=topic, field="name", expected="a job that was stopped",
                          got=f"{job.name} is Succeeded", hint="Change its stop condition in another job.")  # fmt: skip
        return jobs.started(job) if job.status.phase in LEARNING_ENDED else job

    # rounds

    async def reconcile(self) -> None:
        """Begin pending jobs, and take the steps of running ones that are due."""
        await self._end_undecided_rollouts()
        for job in self.resources():
            with self.context.failures.contain(f"incremental job {job.name}"):
                await self._reconcile_one(job)

    async def _reconcile_one(self, job: IncrementalLearningJob) -> None:
        view, now = self.context.view(), self._world.timestamp()
        if job.status.phase in LEARNING_ENDED:
            if edge_loops.is_told(job):  # an edge that was away when it was stopped tells later how far it has come
                await self._observe(job.name, view)
            return
        queue = self.context.store.get(LabelQueue, job.queue)
        what = list(jobs.missing(job, queue, view))
        if what or job.status.phase == "Pending" or jobs.has_waited(job):
            await self.context.step(
                IncrementalLearningJob,
                job.name,
                lambda job: jobs.waits(job, what, now) if what else jobs.begun(job, now),
            )
        if what:
            return
        services = self.context.store.all(JointInferenceService)
        if jobs.with_detectors(job, services, now) is not job:
            await self.context.step(IncrementalLearningJob, job.name,
                                    lambda job: jobs.with_detectors(job, services, now))  # fmt: skip
        if job.spec.location == "cloud":
            await self._rounds.advance(job.name, view)
        else:
            await self._observe(job.name, view)

    async def _end_undecided_rollouts(self) -> None:
        """End the trials of candidates whose job was deleted: nobody decides on them any more."""
        begin = f"{IncrementalLearningJob.plural}/"
        for model in self.context.store.all(Model):
            rollout = model.status.rollout
            if rollout is None or not rollout.requested_by.startswith(begin):
                continue
            job = self.context.store.get(IncrementalLearningJob, rollout.requested_by.removeprefix(begin))
            if job is None or job.status.loop.step not in jobs.ON_TRIAL:
                await self.context.versions.roll_back(
                    model.name, rollout.version, rollout.requested_by, self._world.timestamp()
                )

    async def _observe(self, name: str, view: View) -> None:
        await self.context.step(IncrementalLearningJob, name, lambda job: edge_loops.observed(job, view))

    async def _watch_time(self) -> None:
        """Look at the loops when labels have come, or when time alone may bring a step, until cancelled."""
        too_soon = False
        while True:
            await wait_for(self._wake, min(self._until_next_look(), SHOW_EVERY if too_soon else CALM))
            self._wake.clear()
            await self.reconcile()
            too_soon = self._world.monotonic() - self._shown < SHOW_EVERY
            if not too_soon:
                await self._show_counts()
                self._shown = self._world.monotonic()
            await self.context.write_desired()
            await self._world.sleep(LOOK_EVERY)

    async def _show_counts(self) -> None:
        for job in self.resources():
            queue = self.context.store.get(LabelQueue, job.queue)
            if queue is None or job.status.phase != "Running" or job.spec.location != "cloud":
                continue
            waiting, labelled = len(self._samples.waiting(job, queue)), self._samples.labelled(queue)
            await self.context.step(IncrementalLearningJob, job.name,
                                    lambda job, w=waiting, n=labelled: jobs.with_counts(job, w, n))  # type: ignore[misc]

    def _until_next_look(self) -> float:
        now = self._world.now()
        looks = [
            due for job in self.resources() if job.status.phase == "Running"
            if (due := decisions.next_look(job.status.loop, job.spec, jobs.facts_of(job, 0), now)) is not None
        ]  # fmt: skip
        running = (job for job in self.resources() if job.status.phase == "Running")
        on_counts = any(decisions.read_counts(job.status.loop, job.spec) for job in running)
        return max(0.05, min([*(due - now for due in looks), COUNTED_EVERY if on_counts else CALM]))

    async def _follow_candidates(self) -> None:
        """Take candidates until cancelled, also those that came while nobody led."""
        async for came in self._follow(topics.CANDIDATE, self._candidates_from):
            self._candidates_from = came.message.sequence + 1
            with self.context.failures.contain(came.message.topic):
                self._check(came.payload.job, came.payload.model, came)
                if await self._rounds.take_candidate(came.payload):
                    self._wake.set()

    async def _follow_verdicts(self) -> None:
        """Take verdicts until cancelled, likewise."""
        async for came in self._follow(topics.VERDICT, self._verdicts_from):
            self._verdicts_from = came.message.sequence + 1
            with self.context.failures.contain(came.message.topic):
                self._check(came.payload.job, came.payload.model, came)
                if await self._rounds.take_verdict(came.payload):
                    self._wake.set()

    async def _follow(self, topic: Topic[P], start: int) -> AsyncIterator[Received[P]]:
        bus = self.context.port.bus
        first = start or await bus.last_sequence(topic.stream_name) + 1
        async with bus.consume(topic.filter(), start=first) as messages:
            async for message in messages:
                found: Received[P] | None = None
                with self.context.failures.contain(message.topic):
                    found = self.context.port.read(topic, message)
                if found is not None:
                    yield found

    def _check(self, name: str, model: str, came: Received[Any]) -> None:
        """Raise Refused where an event says another job than its topic, or comes from a node that was not asked."""
        if came.params["job"] != name:
            raise Refused("invalid", topic=came.message.topic, field="job", expected=came.params["job"], got=name)
        job = self.context.store.get(IncrementalLearningJob, name)
        if job is not None and job.spec.location == "cloud":  # else it tells what an edge has done by itself
            check_sender(job, model, came.params["edge"], came.message.topic)

    # consequences

    def edge_loops(self, view: View) -> dict[str, dict[str, EdgeLoop]]:
        found: dict[str, dict[str, EdgeLoop]] = {}
        services = self.context.store.all(JointInferenceService)
        for job in self.resources():
            if edge_loops.is_told(job):
                of_job = {job.name: edge_loops.loop_of(job, services, view)}
                for edge in edge_loops.placement(job, view):
                    found[edge] = {**found[edge], **of_job} if edge in found else of_job
        return found

    def desired(self, view: View) -> Iterator[Mapping[str, list[WorkerTask]]]:
        for job in self.resources():
            found: dict[str, list[WorkerTask]] = {}
            with self.context.failures.contain(f"incremental job {job.name}"):
                found = self._desired_of(job, view)
            yield found

    def _desired_of(self, job: IncrementalLearningJob, view: View) -> dict[str, list[WorkerTask]]:
        state = job.status.loop
        if job.status.phase != "Running" or job.spec.location != "cloud" or not state.round:
            return {}
        found: dict[str, list[WorkerTask]] = {}
        packages = pinned(names_of(job), view)
        for each in job.spec.models:
            candidate = state.candidates.get(each.model.name)
            base = candidate.base if candidate is not None else ""
            task = learn_task(
                job.name, job.metadata.uid, job.spec, state, edge_loops.with_package_defaults(each, packages),
                jobs.weights_of(view.models.get(each.model.name), base),
                package_of(each.worker_spec, packages, each.worker_spec.train_script_arguments),
                ask_of(each.worker_spec.resources, job.spec.priority, job.metadata),
                pod_of(each.worker_spec, each.worker_spec.resources, job.metadata.uid), script_in(each.worker_spec),
            )  # fmt: skip
            found.setdefault(each.node_name, []).append(task)
        return found


def _models(job: IncrementalLearningJob) -> list[str]:
    return [each.model.name for each in job.spec.models]
