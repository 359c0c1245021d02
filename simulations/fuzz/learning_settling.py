"""The check whether a run's learning jobs have settled, and their evidence once they have."""

from __future__ import annotations

from collections.abc import Iterator

from heliograph.bus.contract.resources import (
    PAIR_ENDED,
    SIDES,
    IncrementalLearningJob,
    JointInferenceService,
    Model,
    PairTrainingJob,
    resolve,
)
from heliograph.bus.contract.resources.model import candidate_on
from heliograph.core.names import CLOUD
from heliograph.incremental.loop_shards import waiting_in_shards
from heliograph.simulations.faults.invariants import Violation
from heliograph.simulations.faults.learning_invariants import LearningEvidence, check_learning
from heliograph.simulations.fuzz.learning_documents import model_of
from heliograph.simulations.fuzz.learning_plan import LearningJob, PairJob
from heliograph.simulations.fuzz.learning_record import HELD_OUT, LearningRecord, Served
from heliograph.simulations.fuzz.learning_truth import loops, stored
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster


def unfinished_learning(cluster: VirtualCluster, plan: Plan, record: LearningRecord) -> Iterator[str]:
    """Describe everything that learning jobs still wait for; nothing once all of them have settled."""
    for planned in plan.learning:
        job = stored(cluster, IncrementalLearningJob, planned.name)
        if job is None and not _is_deleted(planned):
            yield f"job {planned.name} to exist"
        for edge in planned.edges:
            if (sent := record.sent[planned.name, edge]) < planned.samples:
                yield f"job {planned.name}: {edge} has found {sent} of {planned.samples} hard samples"
        for loop in loops(cluster, planned):
            where, state = f"job {planned.name} on {loop.node}", loop.state
            if loop.open:
                yield f"{where}: {loop.open} samples wait for a label"
            if not loop.goes_on:
                continue
            if job is not None and job.status.phase != "Running":
                yield f"{where} is {job.status.phase}: {'; '.join(each.message for each in job.status.conditions)}"
            if state.step != "waiting":
                yield f"{where}: round {state.round} is {state.step}"
            elif waiting := len(loop.waiting) + waiting_in_shards(state):
                yield f"{where}: {waiting} labelled samples wait for a training"
        yield from (str(each) for each in _served(cluster, planned, record))
    for pair in plan.pairs:
        found = stored(cluster, PairTrainingJob, pair.name)
        if found is None and not _is_deleted(pair):
            yield f"job {pair.name} to exist"
        if found is not None and found.status.phase not in PAIR_ENDED:
            texts = "; ".join(each.message for each in found.status.conditions if each.message)
            yield f"job {pair.name} is {found.status.phase}, {found.status.step}; {texts}"
        yield from (str(each) for each in _pair_served(cluster, pair, record))


def check_all_learning(cluster: VirtualCluster, plan: Plan, record: LearningRecord) -> Iterator[Violation]:
    """Check the invariants of all learning jobs of a settled run."""
    for planned in plan.learning:
        yield from check_learning(evidence_of(cluster, planned, record))
        yield from _served(cluster, planned, record)
    for pair in plan.pairs:
        yield from _pair_violations(cluster, pair)
        yield from _pair_served(cluster, pair, record)


def evidence_of(cluster: VirtualCluster, planned: LearningJob, record: LearningRecord) -> LearningEvidence:
    """Return the evidence of one incremental job."""
    job = stored(cluster, IncrementalLearningJob, planned.name)
    places = {place: samples for (queue, place), samples in record.accepted.items() if queue == planned.name}
    found = [*loops(cluster, planned)]
    nodes = {loop.node: planned.node if planned.location == "cloud" else loop.node for loop in found}
    read = {
        loop.node: {number: set(shard.labels) for number, shard in record.shards[loop.uid, nodes[loop.node]].items()}
        for loop in found
    }
    return LearningEvidence(
        job=planned.name, phase=job.status.phase if job is not None else "", held_out=HELD_OUT, accepted=places,
        loops=found, read=read, trained={loop.node: record.trained[loop.uid, nodes[loop.node]] for loop in found},
    )  # fmt: skip


def _served(cluster: VirtualCluster, planned: LearningJob, record: LearningRecord) -> Iterator[Violation]:
    """Check that each edge answers with the version that is named for it: by its own loop, or by the model."""
    model, job = stored(cluster, Model, planned.name), stored(cluster, IncrementalLearningJob, planned.name)
    if model is None:
        return
    found = {loop.node: loop for loop in loops(cluster, planned)}
    for edge in planned.edges:
        own = found[edge].own if edge in found else None
        version, beside = resolve(model, edge), candidate_on(model, edge)
        named = Served("", beside[0].weights.digest if beside is not None else "")
        if own is not None or version is not None:
            named.digest = own.digest if own is not None else version.weights.digest  # type: ignore[union-attr]
        serving = record.serving.get((planned.name, edge), Served())
        if not named.digest:
            named.digest = serving.digest  # nothing to return to: it serves on what it has
        if serving != named:
            yield _mismatch(f"job {planned.name}: {edge} serves {serving}, and {named} is named")
        told = job.status.edges.get(edge) if job is not None else None
        if told is not None and edge in found and told.deployed.get(planned.name, "") != (own.digest if own else ""):
            yield _mismatch(f"job {planned.name}: its status says that {edge} has deployed "
                            f"{told.deployed.get(planned.name, 'nothing')[:12]}, and it has {own}")  # fmt: skip
    champion = job.status.loop.champions.get(planned.name) if job is not None else None
    deployed = resolve(model)
    if champion is not None and deployed is not None and deployed.weights.digest != champion and _waits(job):
        yield _mismatch(f"job {planned.name}: its champion is {champion[:12]}, and {deployed.weights.digest[:12]} is "
                        "deployed")  # fmt: skip
    if model.status.rollout is not None and (job is None or _waits(job)):
        yield _mismatch(f"model {planned.name}: version {model.status.rollout.version} is on trial, and no job decides "
                        "on it")  # fmt: skip


def _pair_served(cluster: VirtualCluster, planned: PairJob, record: LearningRecord) -> Iterator[Violation]:
    """Check that the service of a pair answers with the deployed versions of its models."""
    if stored(cluster, JointInferenceService, planned.name) is None:
        return
    places = [(edge, "edge") for edge in cluster.edges] + [(CLOUD, "cloud")]
    for node, side in places:
        model = stored(cluster, Model, model_of(planned, side))
        version = resolve(model, node) if model is not None else None
        named = version.weights.digest if version is not None else ""
        serving = record.serving.get((planned.name, node), Served())
        if serving.digest != named:
            yield _mismatch(f"job {planned.name}: {node} serves {serving}, and {named[:12]} is deployed")


def _pair_violations(cluster: VirtualCluster, planned: PairJob) -> Iterator[Violation]:
    """Check that a pair job that has succeeded has registered each model once, and that no fault made one fail."""
    job = stored(cluster, PairTrainingJob, planned.name)
    if job is None:
        return
    status = job.status
    if status.phase == "Failed" and not status.reason.startswith("the pair is not registered"):
        yield Violation("no_learning_job_fails", f"job {planned.name} has failed: {status.reason}")
    for side in SIDES if status.phase == "Succeeded" else ():
        model, trained = stored(cluster, Model, model_of(planned, side)), status.models[side]
        versions = [each for each in model.status.versions if each.job == job.metadata.uid] if model is not None else []
        registered = [(each.version, each.weights.digest) for each in versions if each.round == status.run]
        if registered != [(trained.version, trained.weights.digest)]:
            own = f"{trained.version}, {trained.weights.digest[:12]}"
            text = f"job {planned.name}: its {side} model is version {own}, and registered are {registered}"
            yield Violation("a_pair_is_registered_once", text)


def _mismatch(text: str) -> Violation:
    return Violation("what_serves_is_what_the_status_names", text)


def _waits(job: IncrementalLearningJob | None) -> bool:
    return job is not None and job.status.loop.step == "waiting"


def _is_deleted(planned: LearningJob | PairJob) -> bool:
    return any(each.verb == "delete" for each in planned.acts)
