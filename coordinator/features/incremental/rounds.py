"""Take the steps of a job's rounds: what its loop decides is done, then stored with the state that follows.

Every effect may be repeated: a coordinator that is killed between an effect and the state leaves the decision to its
successor, which takes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from heliograph.bus.contract.payloads import Candidate, LearnTask, VerdictReport
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import IncrementalLearningJob, LabelQueue, LoopState, Model, WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import LearnedModel
from heliograph.bus.contract.resources.rollout import Rollout
from heliograph.bus.contract.topics import CANDIDATE, VERDICT
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.incremental import state_machine as jobs
from heliograph.coordinator.features.incremental.labelled_samples import LabelledSamples
from heliograph.coordinator.features.incremental.shard_writer import WrittenShard, write_shards
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.incremental import canary, loop, loop_shards
from heliograph.incremental.canary import CanaryFacts
from heliograph.incremental.decisions import (
    BY_HAND,
    Begin,
    Deploy,
    End,
    Evaluate,
    Look,
    Promote,
    RollBack,
    decide,
    why_ended,
)
from heliograph.incremental.shards import MAX_SAMPLES

STEPS_AT_ONCE = 8
"""Steps of one job that are taken before others have their turn."""


class Rounds:
    """Takes the steps of jobs whose location is the cloud."""

    def __init__(self, context: ControllerContext, samples: LabelledSamples) -> None:
        self._context = context
        self._samples = samples
        self._world = context.port.world
        self._advancing = asyncio.Lock()
        """One step at a time: two callers would both begin the same round."""

    async def advance(self, name: str, view: View) -> bool:
        """Take all steps of a running job that are due. Return whether it changed."""
        changed = False
        for _ in range(STEPS_AT_ONCE):
            async with self._advancing:
                if not await self._advance_once(name, view):
                    return changed
            changed = True
        return changed

    async def take_candidate(self, came: Candidate) -> bool:
        """Take a candidate that its node has trained; where a file of it is missing or damaged, begin the training once
        more. Return whether the job changed."""
        job = self._job(came.job, came.job_uid)
        if job is None or not loop.awaits(job.status.loop, came):
            return False
        now = self._world.timestamp()
        try:
            placed = await self._adopted(came)
        except HeliographError as error:
            if isinstance(error, Unreachable) and not self._context.port.bus.link.up:
                raise  # the candidates are read again once the link is back
            why = f"its candidate was refused: {error}"
            self._context.warn(f"incremental job {job.name}: {came.model}: {why}")
            return await self._step(job.name, lambda state: loop.spoiled(state, job.spec, came, why, now))
        return await self._step(job.name, lambda state: loop.trained(state, placed, now))

    async def take_verdict(self, report: VerdictReport) -> bool:
        """Take the gate's verdict on a candidate. Return whether the job changed."""
        job = self._job(report.job, report.job_uid)
        if job is None:
            return False
        now = self._world.timestamp()
        return await self._step(job.name, lambda state: loop.judged(state, report, now))

    async def _advance_once(self, name: str, view: View) -> bool:
        job = self._context.store.get(IncrementalLearningJob, name)
        if job is None or job.status.phase != "Running":
            return False
        now = self._world.timestamp()
        queue = self._context.store.get(LabelQueue, job.queue)
        if queue is None:
            return False
        await self._samples.know(job, queue)
        if await self._step_job(name, lambda job: jobs.with_troubles(job, view, now)):
            return True
        if await self._step_job(name, lambda job: jobs.with_present_clock(job, now)):
            return True
        why = why_ended(job.status.loop, job.spec, job.status.metric, job.status.start_time, now)
        if why is not None:
            self._context.out(f"incremental job {name} succeeded: {why}")
            return await self._step_job(name, lambda job: jobs.ended(job, why, now))
        waiting = self._samples.waiting(job, queue)
        facts = jobs.facts_of(job, len(waiting), self._canaries(job), self._drifts(job))
        action = decide(job.status.loop, job.spec, facts, self._world.now())
        match action:
            case Begin(reason):
                return await self._begin(job, queue, waiting, reason, now)
            case Evaluate():
                return await self._step(name, lambda state: loop.evaluate(state, now))
            case Deploy():
                return await self._deploy(job, view, now)
            case Promote(model):
                return await self._promote(job, model, now)
            case RollBack(model, trouble):
                return await self._roll_back(job, model, trouble, now)
            case End():
                return await self._step_job(name, lambda job: jobs.ended_round(job, now))
            case Look(step):
                return await self._step(name, lambda state: loop.looked(state, step, now))
        return False

    async def _begin(
        self, job: IncrementalLearningJob, queue: LabelQueue, waiting: list[str], reason: str, now: str
    ) -> bool:
        """Write the waiting samples as shards, then begin the round that learns them."""
        state, schema = job.status.loop, queue.spec.label_schema
        classes = loop.with_classes(state.classes, schema.classes)
        taken = waiting[:MAX_SAMPLES]
        samples = await self._samples.read(queue, taken, classes)
        self._samples.leave_out(queue, taken, samples)
        if not samples and reason != BY_HAND and not any(loop_shards.to_learn(state, name) for name in _names(job)):
            return True
        written: list[WrittenShard] = []
        if samples:
            written = await write_shards(samples, job.spec.evaluation, state.next_shard, schema.version,
                                         self._context.port.bus, self._world)  # fmt: skip
        await self._samples.note(job, [(shard.ref.number, shard.ids) for shard in written])
        bases = {name: base.digest if (base := self._base(name)) is not None else "" for name in _names(job)}

        starts = await self._stream_starts()

        def decided(known: IncrementalLearningJob) -> IncrementalLearningJob:
            if known.status.loop is not state or known.status.phase != "Running":
                return known  # somebody has changed it: decide again
            with_schema = state.model_copy(update={"classes": classes, "schema_version": schema.version})
            begun = loop.begin(with_schema, job.spec, reason, bases, [shard.ref for shard in written], now)
            return jobs.with_round(known, begun, *starts)

        if not await self._step_job(job.name, decided):
            return True
        self._samples.use(job, [id for shard in written for id in shard.ids])
        self._context.out(f"incremental job {job.name}: round {state.round + 1} begins, {reason}")
        return True

    async def _deploy(self, job: IncrementalLearningJob, view: View, now: str) -> bool:
        """Register the candidates that have passed, and let them answer."""
        by = _caller(job)
        numbers: dict[str, int] = {}
        for learned in job.spec.models:
            name = learned.model.name
            if job.status.loop.candidates[name].step != "passed":
                continue
            version = jobs.version_of(job, learned, _code_of(job, learned, view), now)
            number = numbers[name] = await self._context.versions.add(name, version, by=by)
            rule = job.spec.deployment.canary
            if rule is None or not job.status.loop.candidates[name].base:  # nothing serves that it could be beside
                await self._context.versions.deploy(name, number, by, now)
            else:
                rollout = Rollout(version=number, by=rule.by, share=rule.share, salt=f"{job.name}-{number}",
                                  requested_by=by, time=now)  # fmt: skip
                await self._context.versions.try_out(name, rollout)

        def decided(state: LoopState) -> LoopState:
            for name, number in numbers.items():
                state = loop.registered(state, name, number)
            return loop.deploy(state, job.spec, now)

        return await self._step(job.name, decided)

    async def _promote(self, job: IncrementalLearningJob, model: str, now: str) -> bool:
        version = job.status.loop.candidates[model].version
        assert version is not None
        await self._context.versions.deploy(model, version, _caller(job), now)
        return await self._step(job.name, lambda state: loop.promote(state, model, now))

    async def _roll_back(self, job: IncrementalLearningJob, model: str, why: str, now: str) -> bool:
        version = job.status.loop.candidates[model].version
        assert version is not None
        await self._context.versions.roll_back(model, version, _caller(job), now)
        self._context.warn(f"incremental job {job.name}: version {version} of {model} is rolled back: {why}")
        return await self._step(job.name, lambda state: loop.roll_back(state, model, why, now))

    async def _step(self, name: str, decide: Callable[[LoopState], LoopState]) -> bool:
        return await self._step_job(name, lambda job: jobs.with_loop(job, decide(job.status.loop)))

    async def _step_job(
        self, name: str, decide: Callable[[IncrementalLearningJob], IncrementalLearningJob]
    ) -> bool:
        step = await self._context.step(IncrementalLearningJob, name, decide)
        return step is not None and step[1] is not step[0]

    async def _adopted(self, came: Candidate) -> Candidate:
        """Return the candidate with its files in the models' bucket. Raise Refused where one of them is not there, or
        is not what its digest says."""
        _check_places(came)
        weights = await self._context.versions.adopt(came.weights)
        memory = await self._context.versions.adopt(came.memory) if came.memory is not None else None
        return came.model_copy(update={"weights": weights, "memory": memory})

    def _job(self, name: str, uid: str) -> IncrementalLearningJob | None:
        job = self._context.store.get(IncrementalLearningJob, name)
        return job if job is not None and job.metadata.uid == uid and job.status.phase == "Running" else None

    def _canaries(self, job: IncrementalLearningJob) -> dict[str, CanaryFacts]:
        """Return what the inference workers have counted of champion and candidate of each model."""
        if job.status.loop.step not in ("canary", "watching"):
            return {}
        found = {}
        for name, candidate in job.status.loop.candidates.items():
            counted = {digest: each for feature in self._context.features()
                       for digest, each in feature.counted(name).items()}  # fmt: skip
            facts = canary.facts_of(candidate, counted)
            if candidate.step == "canary" and candidate.version is not None:
                facts = replace(facts, taken_back=self._context.versions.is_taken_back(name, candidate.version))
            found[name] = facts
        return found

    def _drifts(self, job: IncrementalLearningJob) -> dict[str, dict[str, float]]:
        """Return what detectors of drift have seen of the job's models, by edge."""
        found: dict[str, dict[str, float]] = {}
        for learned in job.spec.models:
            for feature in self._context.features():
                for edge, seen in feature.drifts(learned.model.name).items():
                    found.setdefault(edge, {}).update(seen)
        return found

    async def _stream_starts(self) -> tuple[int, int]:
        """Return the sequences from which candidates and verdicts of a round that begins now may come."""
        bus = self._context.port.bus
        return (await bus.last_sequence(CANDIDATE.stream_name) + 1, await bus.last_sequence(VERDICT.stream_name) + 1)

    def _base(self, model: str) -> WeightsRef | None:
        return jobs.base_of(self._context.store.get(Model, model))


def check_sender(job: IncrementalLearningJob, model: str, edge: str, topic: str) -> None:
    """Raise Refused for a candidate or a verdict of another node than the one that was asked."""
    nodes = {each.model.name: each.node_name for each in job.spec.models}
    if edge != nodes.get(model):
        raise Refused("invalid", topic=topic, field="edge", got=edge,
                      expected=f"{nodes[model]}, the node that trains {model}" if model in nodes else "a model of the "
                      f"job: {', '.join(nodes)}")  # fmt: skip


def _check_places(came: Candidate) -> None:
    """Raise Refused for files that do not lie inside the candidate or in its node's own bucket: what is taken from a
    bucket is deleted there."""
    own = upload_bucket(came.edge)
    for field, ref in (("weights", came.weights), ("memory", came.memory)):
        if ref is not None and ref.inline is None and ref.bucket != own:
            raise Refused("invalid", field=f"{field}.bucket", expected=f"{own}, the bucket of {came.edge}",
                          got=ref.bucket)  # fmt: skip


def _names(job: IncrementalLearningJob) -> list[str]:
    return [each.model.name for each in job.spec.models]


def _caller(job: IncrementalLearningJob) -> str:
    """Return the name in which the job moves aliases."""
    return f"{job.plural}/{job.name}"


def _code_of(job: IncrementalLearningJob, learned: LearnedModel, view: View) -> dict[str, int]:
    node = view.edges.get(learned.node_name)
    found = node.workers(job.metadata.uid, LearnTask) if node is not None else []
    return {each.code: 1 for each in found if each.code}
