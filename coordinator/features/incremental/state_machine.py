"""What becomes of an incremental learning job: pending, running round by round, ended. Pure.

The rounds themselves are ``heliograph.incremental.loop``; here is what the coordinator alone knows: other resources,
nodes, and what people are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from heliograph.bus.contract.learning_requests import LearnedModels, LearnedVersion
from heliograph.bus.contract.payloads import LearnTask, WorkerReport
from heliograph.bus.contract.resources import (
    LEARNING_ENDED,
    Condition,
    DatasetUse,
    IncrementalLearningJob,
    JointInferenceService,
    LabelQueue,
    LearningRound,
    LoopState,
    Model,
    ModelVersion,
    WeightsRef,
    condition,
    resolve,
)
from heliograph.bus.contract.resources.incremental_learning_job import LearnedModel
from heliograph.bus.contract.resources.learning_progress import ROUNDS_KEPT
from heliograph.bus.contract.resources.model import declared
from heliograph.bus.contract.resources.triggers import Triggers
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.packages import missing_packages
from heliograph.incremental import decisions, loop, loop_shards, triggers, troubles
from heliograph.incremental.canary import CanaryFacts
from heliograph.incremental.tasks import evaluation_version

ON_TRIAL = ("evaluated", "canary")
"""Steps in which a candidate of the job may answer a share of the requests: its trial begins before the step is
stored."""


def missing(job: IncrementalLearningJob, queue: LabelQueue | None, view: View) -> Iterator[str]:
    """Yield what a job needs and does not have, a sentence each."""
    spec = job.spec
    if queue is None:
        yield f"label queue {job.queue} does not exist"
    elif queue.spec.location != spec.location:
        yield f"label queue {job.queue} has the location {queue.spec.location}, and the job {spec.location}"
    elif (why := unlearnable(queue)) is not None:
        yield f"label queue {job.queue} has {why}, and a job learns one class for each sample"
    for each in spec.models:
        if each.model.name not in view.models:
            yield f"model {each.model.name} does not exist"
        if spec.location == "cloud" and (why := _unable(each.node_name, view)):
            yield f"node {each.node_name} {why}"
    yield from missing_packages(job, view)


def unlearnable(queue: LabelQueue) -> str | None:
    """Return what a queue's labels are where no job learns them; None where each is one class.

    Numbers are among them: a hard-sample rule, the gate and the strategies against forgetting compare classes.
    """
    type = queue.spec.label_schema.type
    return None if type == "choice" else f"labels of the type {type}"


def begun(job: IncrementalLearningJob, now: str) -> IncrementalLearningJob:
    """Start a pending job."""
    ready = Condition(type="Ready", status="True", reason="AllThere")
    return _with(job, phase="Running", start_time=job.status.start_time or now,
                 conditions=condition(job.status.conditions, ready, now))  # fmt: skip


def has_waited(job: IncrementalLearningJob) -> bool:
    """Return whether the job still tells of something that was missing."""
    return any(each.type == "Ready" and each.status == "False" for each in job.status.conditions)


def waits(job: IncrementalLearningJob, what: Sequence[str], now: str) -> IncrementalLearningJob:
    """Tell what a job that cannot begin, or cannot go on, waits for."""
    waiting = Condition(type="Ready", status="False", reason="Missing", message="; ".join(what)[:2000])
    return _with(job, conditions=condition(job.status.conditions, waiting, now))


def with_loop(job: IncrementalLearningJob, state: LoopState) -> IncrementalLearningJob:
    """Return the job with another state of its loop."""
    return job if state is job.status.loop else _with(job, loop=state)


def with_present_clock(job: IncrementalLearningJob, now: str) -> IncrementalLearningJob:
    """Return the job with times that lie ahead set to now: the clock was set back."""
    began = loop.at_latest(job.status.start_time, now)
    return _with(job, loop=loop.with_present_clock(job.status.loop, now), start_time=began)


def with_detectors(
    job: IncrementalLearningJob, services: Iterable[JointInferenceService], now: str
) -> IncrementalLearningJob:
    """Tell which detectors of drift the job's triggers wait for and no service of its models runs. The condition
    appears once there is one, and turns true when there is none any more."""
    wanted = set[str]().union(*map(triggers.detectors, _rules(job)))
    told = any(each.type == "DriftWatched" for each in job.status.conditions)
    if not wanted and not told:
        return job
    names = {each.model.name for each in job.spec.models}
    running = {detector for service in services if service.spec.edge_worker.model.name in names
               for detector in service.spec.drift}  # fmt: skip
    found = Condition(type="DriftWatched", status="True", reason="AllRun")
    if missing := sorted(wanted - running):
        found = Condition(type="DriftWatched", status="False", reason="NoDetector",
                          message=f"no service of {', '.join(sorted(names))} runs {', '.join(missing)}, for which a "
                          "trigger waits; name it in the service's drift")  # fmt: skip
    elif not told:
        return job
    return _with(job, conditions=condition(job.status.conditions, found, now))


def with_round(
    job: IncrementalLearningJob, state: LoopState, candidates_from: int, verdicts_from: int
) -> IncrementalLearningJob:
    """Return the job with a round that begins, whose candidates and verdicts come from these sequences on."""
    return _with(job, loop=state, candidates_from=candidates_from, verdicts_from=verdicts_from)


def with_counts(job: IncrementalLearningJob, waiting: int, labelled: int) -> IncrementalLearningJob:
    """Return the job with the numbers of its samples."""
    waiting += loop_shards.waiting_in_shards(job.status.loop)
    return _with(job, waiting=waiting, labelled=max(labelled, job.status.labelled))


def ended_round(job: IncrementalLearningJob, now: str) -> IncrementalLearningJob:
    """End the round: keep its record, and tell how it went."""
    state, record = loop.end(job.status.loop, now)
    used = loop_shards.to_measure(job.status.loop)
    if used and any(each.verdict is not None for each in record.models.values()):
        version = evaluation_version(job.spec.evaluation, used)
        samples = sum(shard.samples for shard in used)
        use = DatasetUse(name=job.queue, edge=job.spec.models[0].node_name, version=version, samples=samples)
        record = record.model_copy(update={"evaluation_set": use})
    conditions = condition(job.status.conditions, _learning(record), now)
    if (told := _measured(job, state)) is not None:
        conditions = condition(conditions, told, now)
    metric = state.metrics.get(job.spec.evaluation.metric, job.status.metric)
    return _with(job, loop=state, rounds=[*job.status.rounds, record][-ROUNDS_KEPT:], metric=metric,
                 conditions=conditions)  # fmt: skip


def ended(job: IncrementalLearningJob, reason: str, now: str) -> IncrementalLearningJob:
    """End the job, whose stop condition holds."""
    done = Condition(type="Ready", status="True", reason="Ended", message=reason)
    return _with(job, phase="Succeeded", completion_time=now, conditions=condition(job.status.conditions, done, now))


def stopped(job: IncrementalLearningJob, now: str) -> IncrementalLearningJob:
    """Stop a job on request. What its round has made so far is given up; its samples wait for another one."""
    if job.status.phase in LEARNING_ENDED:
        return job
    told = Condition(type="Ready", status="False", reason="Stopped", message="stopped on request")
    return _with(job, phase="Stopped", completion_time=now, conditions=condition(job.status.conditions, told, now))


def started(job: IncrementalLearningJob) -> IncrementalLearningJob:
    """Start a job again that was stopped: it goes on with its samples and its round."""
    return _with(job, phase="Pending", completion_time="")


def asked(job: IncrementalLearningJob, step: str) -> IncrementalLearningJob:
    """Take note of a step that is asked for by hand."""
    return with_loop(job, loop.ask(job.status.loop, step))  # type: ignore[arg-type]


def with_troubles(job: IncrementalLearningJob, view: View, now: str) -> IncrementalLearningJob:
    """Take note of workers that have crashed or hang, and tell of those that wait."""

    def reports(learned: LearnedModel) -> list[WorkerReport]:
        node = view.edges.get(learned.node_name)
        return node.workers(job.metadata.uid, LearnTask) if node is not None else []

    state, waiting = troubles.with_troubles(job.name, job.spec, job.status.loop, reports, now)
    job = with_loop(job, state)
    told = _scheduled(job, waiting)
    return job if told is None else _with(job, conditions=condition(job.status.conditions, told, now))


def weights_of(model: Model | None, digest: str) -> WeightsRef | None:
    """Return the reference to a version's weights; None where the model has none of that digest."""
    if model is None or not digest:
        return None
    known: list[ModelVersion | None] = [*reversed(model.status.versions), declared(model)]
    return next((each.weights for each in known if each is not None and each.weights.digest == digest), None)


def base_of(model: Model | None) -> WeightsRef | None:
    """Return the weights that serve where no alias is bound, and that a training starts from."""
    version = resolve(model) if model is not None else None
    return version.weights if version is not None else None


def version_of(job: IncrementalLearningJob, learned: LearnedModel, code: Mapping[str, int], now: str) -> ModelVersion:
    """Return the version that a candidate which has passed becomes, without a number."""
    state = job.status.loop
    candidate = state.candidates[learned.model.name]
    assert candidate.weights is not None and candidate.verdict is not None
    shards, measured = loop_shards.to_learn(state, learned.model.name), loop_shards.to_measure(state)
    uses = [DatasetUse(name=job.queue, edge=learned.node_name, version=shard.weights.digest, samples=shard.samples)
            for shard in shards]  # fmt: skip
    evaluation = DatasetUse(name=job.queue, edge=learned.node_name, version=candidate.verdict.evaluation,
                            samples=sum(shard.samples for shard in measured))  # fmt: skip
    return ModelVersion(
        version=0,
        weights=candidate.weights,
        job=job.metadata.uid,
        job_name=job.name,
        round=state.round,
        metrics={"accuracy": candidate.verdict.candidate, **candidate.verdict.metrics},
        time=now,
        parent=candidate.base,
        datasets=uses[:8],
        dataset_count=len(uses),
        code=dict(code),
        evaluation_set=evaluation,
    )


def learned_models(job: IncrementalLearningJob, view: View) -> LearnedModels:
    """Answer what a job has made."""
    names = [each.model.name for each in job.spec.models]
    deployed = {name: resolve(view.models[name]) for name in names if name in view.models}
    edges = job.status.edges
    records = [(record, "") for record in job.status.rounds]
    records += [(each.last, edge) for edge, each in edges.items() if each.last is not None]
    return LearnedModels(
        name=job.name,
        champions={name: version.version for name, version in deployed.items() if version is not None},
        versions=[
            LearnedVersion(round=record.round, model=name, decision=each.decision, version=each.version,
                           digest=each.digest, reason=each.reason, edge=edge,
                           accuracy=each.verdict.candidate if each.verdict is not None else None)
            for record, edge in records for name, each in record.models.items()
        ],
        edges={edge: each.deployed for edge, each in edges.items() if each.deployed},
    )  # fmt: skip


def facts_of(
    job: IncrementalLearningJob,
    waiting: int,
    canaries: Mapping[str, CanaryFacts] | None = None,
    drifts: Mapping[str, Mapping[str, float]] | None = None,
) -> decisions.Facts:
    """Return what the job's loop is decided on."""
    return decisions.Facts(new_samples=waiting, began=loop.seconds(job.status.start_time), canaries=canaries or {},
                           drifts=drifts or {})  # fmt: skip


def _learning(record: LearningRound) -> Condition:
    found = [f"{name}: {each.decision}{f' ({each.reason})' if each.reason else ''}"
             for name, each in record.models.items()]  # fmt: skip
    good = any(each.decision == "deployed" for each in record.models.values())
    return Condition(type="Learning", status="True" if good else "False", reason=f"Round{record.round}",
                     message="; ".join(found)[:2000])  # fmt: skip


def _measured(job: IncrementalLearningJob, state: LoopState) -> Condition | None:
    """Return the condition that tells which metrics triggers, or the stop condition, wait for and no evaluation gives;
    None where there is nothing to tell. It appears once one is missing."""
    wanted = set[str]().union(*map(triggers.metrics, _rules(job)))
    if job.spec.stop.metric is not None:
        wanted.add(job.spec.evaluation.metric)
    missing = sorted(wanted - state.metrics.keys()) if state.metrics else []
    if missing:
        return Condition(type="MetricsMeasured", status="False", reason="NoMetric",
                         message=f"no evaluation gives {', '.join(missing)}, for which a trigger or the stop condition "
                         f"waits; it gives {', '.join(sorted(state.metrics))}, and what the script's evaluate "
                         "returns by name")  # fmt: skip
    if any(each.type == "MetricsMeasured" for each in job.status.conditions):
        return Condition(type="MetricsMeasured", status="True", reason="AllMeasured")
    return None


def _rules(job: IncrementalLearningJob) -> list[Triggers]:
    return [each for each in (job.spec.train, job.spec.evaluate, job.spec.deploy) if each is not None]


def _unable(node: str, view: View) -> str:
    """Return why a node cannot train; empty where it can, as far as it is known."""
    if node not in view.edges:
        return "is unknown"
    return "has not reported yet" if view.edges[node].report is None else ""


def _scheduled(job: IncrementalLearningJob, waiting: Sequence[str]) -> Condition | None:
    if waiting:
        return Condition(type="Scheduled", status="False", reason="WaitsForNode", message="; ".join(waiting)[:2000])
    if any(each.type == "Scheduled" for each in job.status.conditions):
        return Condition(type="Scheduled", status="True", reason="AllRun")
    return None


def _with(job: IncrementalLearningJob, **changes: object) -> IncrementalLearningJob:
    status = job.status.model_copy(update=changes)
    return job if status == job.status else job.model_copy(update={"status": status})
