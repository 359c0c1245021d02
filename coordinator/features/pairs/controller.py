"""The controller of pair training jobs: from data sets on a node to two registered models, and the service of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import PairResult, PairTask, WorkerTask
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import (
    PAIR_ENDED,
    SIDES,
    Dataset,
    Model,
    PairTrainingJob,
    Resource,
    Side,
    WeightsRef,
    resolve,
)
from heliograph.bus.port import Received
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.asks import ask_of
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.pairs import lineage, requirements
from heliograph.coordinator.features.pairs import state_machine as jobs
from heliograph.coordinator.features.pairs.pair_service import PairService
from heliograph.coordinator.features.pairs.tasks import pair_task, service_of
from heliograph.coordinator.packages import check_parameters, names_of, pinned
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.tasks import Flag, wait_for
from heliograph.incremental.loop import seconds

CALM = 60.0
"""Seconds after which jobs are looked at though nothing is due."""
LOOK_EVERY = 0.1
"""Seconds between two looks at the jobs."""
_MAY_CHANGE = ("attempts", "step_deadline_seconds", "priority", "deploy", "service")
"""Fields of the spec that a running job takes."""


class PairController(Feature[PairTrainingJob]):
    """Begins and steps pair training jobs, registers what they have trained, and writes the tasks of their workers."""

    async def prepare(self) -> None:
        """Find where the stream of results goes on: some may have come while nobody led."""
        self._world = self.context.port.world
        self._wake = Flag()
        self._service = PairService(self.context)
        self._advancing = asyncio.Lock()
        """One step of a job at a time: two callers would both register it."""
        running = [job.status.results_from for job in self.resources() if job.status.phase == "Running"]
        self._results_from = min(running, default=0)

    def parts(self) -> Sequence[Part]:
        return self._follow_results, self._watch_time

    @property
    def busy(self) -> bool:
        return any(job.status.phase == "Running" for job in self.resources())

    # requests

    def validate(self, job: PairTrainingJob, topic: str) -> None:
        tuning, place = job.spec.tuning, "spec.tuning"
        choice = NamedChoice("rule", tuning.rule, f"{place}.rule", tuning.parameters, f"{place}.parameters")
        view = self.context.view()
        check_offered(choice, view.rules(job.spec.node_name), topic)
        check_parameters(job, view.packages, topic)
        if job.spec.service is not None:
            known = self.context.store.get(PairTrainingJob, job.name)
            self._service.check(job, known.metadata.uid if known is not None else "", topic)

    def may_change(self, known: PairTrainingJob, wanted: PairTrainingJob, topic: str) -> None:
        if known.status.phase in ("Running", "Succeeded") and (field := _changed_field(known, wanted)):
            raise Refused("fixed", topic=topic, field=f"spec.{field}", expected="the spec that the job trains with",
                          got=f"another one, while {known.name} is {known.status.phase}",
                          hint="Stop the job first: it then begins anew." if known.status.phase == "Running"
                          else "Make another job, under another name.")  # fmt: skip

    def changed(self, known: PairTrainingJob, changed: PairTrainingJob) -> PairTrainingJob:
        return jobs.begins_anew(changed) if _changed_field(known, changed) else changed

    def steer(self, job: PairTrainingJob, verb: str, topic: str) -> PairTrainingJob:
        match verb:
            case "stop":
                return jobs.stopped(job, self._world.timestamp())
            case "start" if job.status.phase == "Succeeded":
                raise Refused("ended", topic=topic, field="name", expected="a job that was stopped, or has failed",
                              got=f"{job.name} is Succeeded", hint="Make another job, under another name.")  # fmt: skip
            case "start":
                return jobs.started(job)
        return super().steer(job, verb, topic)

    async def answer(
        self, verb: str, body: BaseModel, resource: PairTrainingJob | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        assert verb == "models" and resource is not None
        return lineage.models_of(resource)

    def may_delete(self, other: Resource, topic: str) -> None:
        """Refuse to delete a model, or a data set, that a job needs."""
        for job in self.resources():
            spec = job.spec
            models, datasets = (spec.edge.model.name, spec.cloud.model.name), spec.datasets.values()
            needed = models if isinstance(other, Model) else datasets if isinstance(other, Dataset) else ()
            if job.status.phase not in PAIR_ENDED and other.name in needed:
                what = "model" if isinstance(other, Model) else "data set"
                raise Refused("in-use", topic=topic, field="name", expected=f"a {what} that no job needs",
                              got=f"{other.name}, which pair job {job.name} needs",
                              hint="Stop or delete the job first.")  # fmt: skip

    # steps

    async def reconcile(self) -> None:
        """Begin pending jobs, and take the steps of running ones that are due."""
        for job in self.resources():
            with self.context.failures.contain(f"pair job {job.name}"):
                async with self._advancing:
                    await self._advance(job.name)

    async def _advance(self, name: str) -> None:
        job = self.context.store.get(PairTrainingJob, name)
        if job is None or job.status.phase in PAIR_ENDED:
            return
        if job.status.step in ("registering", "serving") and job.status.phase == "Running":
            await self._finish(job)
            return
        view, now = self.context.view(), self._world.timestamp()
        if what := list(requirements.missing(job, view)):
            await self._step(name, lambda job: jobs.waits(job, what, now))
            return
        found = requirements.uses(job, view)
        if jobs.has_other_data(job, found):
            self.context.out(f"pair job {name}: a data set has another version, and the job begins anew")
            await self._step(name, lambda job: jobs.abandoned(job) if jobs.has_other_data(job, found) else job)
            return
        if job.status.phase == "Pending":
            await self._begin(job)
            return
        if jobs.has_waited(job):
            await self._step(name, lambda job: jobs.goes_on(job, now))
        reports = view.edges[job.spec.node_name].workers(job.metadata.uid, PairTask)
        await self._step(name, lambda job: jobs.with_troubles(job, reports, now))

    async def _begin(self, job: PairTrainingJob) -> None:
        """Begin a run, or go on with one that was stopped."""
        now = self._world.timestamp()
        if job.status.step != "waiting":
            await self._step(job.name, lambda job: jobs.resumed(job, now) if job.status.phase == "Pending" else job)
            return
        bases = await self._bases(job)
        start = await self.context.port.bus.last_sequence(topics.PAIR_RESULT.stream_name) + 1
        found = requirements.uses(job, self.context.view())
        await self._step(
            job.name,
            lambda job: jobs.begun(job, found, bases, start, now) if job.status.phase == "Pending" else job,
        )

    async def _bases(self, job: PairTrainingJob) -> dict[Side, WeightsRef]:
        """Return the versions that the trainings start from, in the models' bucket: a status has no room for them."""
        found: dict[Side, WeightsRef] = {}
        for side in SIDES:
            model = self.context.store.get(Model, _model(job, side))
            version = resolve(model) if model is not None else None
            if version is not None:
                found[side] = await self.context.versions.in_bucket(version.weights)
        return found

    async def _finish(self, job: PairTrainingJob) -> None:
        """Register the pair, and create its service. Each may be repeated: a coordinator that is killed in between
        leaves it to its successor."""
        now = self._world.timestamp()
        if job.status.step == "registering":
            numbers = await self._register(job, now)
            await self._step(job.name, lambda job: jobs.registered(job, numbers, now))
        else:
            service, trouble = await self._service.create(job)
            await self._step(job.name, lambda job: jobs.served(job, service, trouble, now))

    async def _register(self, job: PairTrainingJob, now: str) -> dict[Side, int]:
        by, numbers = f"{job.plural}/{job.name}", dict[Side, int]()
        for side in SIDES:
            version = lineage.version_of(job, side, now)
            numbers[side] = await self.context.versions.add(_model(job, side), version, by=by)
        served = job.spec.service is not None and not self._service.is_foreign(service_of(job).name, job.metadata.uid)
        if job.spec.deploy or served:
            for side in SIDES:
                await self.context.versions.deploy(_model(job, side), numbers[side], by, now)
        self.context.out(f"pair job {job.name}: registered {_model(job, 'edge')} version {numbers['edge']} and "
                         f"{_model(job, 'cloud')} version {numbers['cloud']}")  # fmt: skip
        return numbers

    async def _watch_time(self) -> None:
        """Look at the jobs when a result has come, or when a step has lasted too long, until cancelled."""
        while True:
            await wait_for(self._wake, self._until_next_look())
            self._wake.clear()
            await self.reconcile()
            await self.context.write_desired()
            await self._world.sleep(LOOK_EVERY)

    def _until_next_look(self) -> float:
        now = self._world.now()
        due = [seconds(job.status.step_since) + job.spec.step_deadline_seconds - now for job in self.resources()
               if job.status.phase == "Running"]  # fmt: skip
        return max(LOOK_EVERY, min([*due, CALM]))

    # results

    async def _follow_results(self) -> None:
        """Take results until cancelled, also those that came while nobody led."""
        bus, topic = self.context.port.bus, topics.PAIR_RESULT
        first = self._results_from or await bus.last_sequence(topic.stream_name) + 1
        async with bus.consume(topic.filter(), start=first) as messages:
            async for message in messages:
                self._results_from = message.sequence + 1
                with self.context.failures.contain(message.topic):
                    await self._take(self.context.port.read(topic, message))

    async def _take(self, came: Received[PairResult]) -> None:
        result, topic = came.payload, came.message.topic
        job = self.context.store.get(PairTrainingJob, came.params["job"])
        if job is None or not jobs.answers(job, result):
            return
        if result.job != job.name or result.edge != came.params["edge"] or result.edge != job.spec.node_name:
            raise Refused("invalid", topic=topic, field="edge", got=came.params["edge"],
                          expected=f"{job.spec.node_name}, the node of {job.name}")  # fmt: skip
        now, why = self._world.timestamp(), ""
        try:
            result = await self._adopted(result)
        except HeliographError as error:
            if isinstance(error, Unreachable) and not self.context.port.bus.link.up:
                raise  # the results are read again once the link is back
            why = str(error)
        if why:
            self.context.warn(f"pair job {job.name}: {job.status.step}: {why}")
        await self._step(
            job.name,
            lambda job: jobs.taken(job, result, now) if not why else
            jobs.stumbled(job, why, now) if jobs.answers(job, result) else job,
        )  # fmt: skip

    async def _adopted(self, result: PairResult) -> PairResult:
        """Bring a result's file into the models' bucket. Raise Refused where it lies in another bucket than its node's
        own, since what is taken from a bucket is deleted there, or is not the file of its digest."""
        ref = result.weights
        if ref is None:
            return result
        own = upload_bucket(result.edge)
        if ref.inline is None and ref.bucket != own:
            raise Refused("invalid", field="weights.bucket", expected=f"{own}, the bucket of {result.edge}",
                          got=ref.bucket)  # fmt: skip
        return result.model_copy(update={"weights": await self.context.versions.adopt(ref)})

    async def _step(self, name: str, decide: Callable[[PairTrainingJob], PairTrainingJob]) -> None:
        step = await self.context.step(PairTrainingJob, name, decide)
        if step is None or step[0] is step[1]:
            return
        self._wake.set()  # the next step may be due at once
        if step[0].status.phase != (phase := step[1].status.phase) and phase in PAIR_ENDED:
            self.context.out(f"pair job {name} {phase}: {step[1].status.reason or 'the pair is trained'}")

    # consequences

    def desired(self, view: View) -> Iterator[Mapping[str, list[WorkerTask]]]:
        for job in self.resources():
            found: dict[str, list[WorkerTask]] = {}
            with self.context.failures.contain(f"pair job {job.name}"):
                asks = ask_of(job.spec.worker_spec.resources, job.spec.priority, job.metadata)
                if (task := pair_task(job, pinned(names_of(job), view), asks)) is not None:
                    found = {job.spec.node_name: [task]}
            yield found


def _model(job: PairTrainingJob, side: Side) -> str:
    return (job.spec.edge if side == "edge" else job.spec.cloud).model.name


def _changed_field(known: PairTrainingJob, wanted: PairTrainingJob) -> str:
    """Return the name of a field whose change makes what was trained so far useless; empty where there is none."""
    for name in type(known.spec).model_fields:
        if name not in _MAY_CHANGE and getattr(known.spec, name) != getattr(wanted.spec, name):
            return name
    return ""
