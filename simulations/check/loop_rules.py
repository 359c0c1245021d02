"""What must hold in any trace of incremental learning, whatever the coordinator publishes in a replay. Pure.

A defect that was there when the trace was recorded is there in its replay too, and the two are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Annotation, Desired, InferTask, LabelTask, VerdictReport
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    IncrementalLearningJob,
    JointInferenceService,
    Model,
    Resource,
    ShardRef,
)
from heliograph.bus.contract.topics import Topic
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import Refused
from heliograph.incremental.shards import ids_of
from heliograph.simulations.check.comparable import concerns
from heliograph.simulations.check.compare import Difference
from heliograph.simulations.check.loaded_trace import LoadedTrace, RecordedMessage

R = TypeVar("R", bound=Resource)
Found = tuple[RecordedMessage, Difference]


def broken_rules(trace: LoadedTrace, job: str = "") -> list[Difference]:
    """Return what breaks a rule: labels are of known tasks, each sample is learned from once, and what serves of a
    model that a job trains has passed the gate, or somebody has registered it.

    Args:
        job: only messages of this job or service; empty for all.
    """
    found = (*_strange_labels(trace), *_twice_counted(trace), *_unjudged(trace))
    return [difference for message, difference in found if concerns(message.topic, dict(message.params), job)]


def _strange_labels(trace: LoadedTrace) -> Iterator[Found]:
    """Yield labels of tasks that were never told of, and second labels of one labeller for a task. A queue that was
    made before the recording may have told of its tasks before."""
    made, labelled = _created(trace, "labels"), dict[tuple[str, str, str], str]()
    tasks = {(task.job, task.task) for _, _, task in _payloads(trace, topics.LABEL_TASK, LabelTask)}
    for each, number, label in _payloads(trace, topics.LABEL, Annotation):
        if label.job in made and (label.job, label.task) not in tasks:
            yield each, Difference(each.address, number, "task", "a task that event/label-task tells of", label.task)
        first = labelled.setdefault((label.job, label.task, label.labeller), label.annotation)
        if first != label.annotation and not label.supersedes:
            yield each, Difference(each.address, number, "labeller", "one label of a labeller for a task",
                                   f"a second one of {label.labeller}")  # fmt: skip


def _twice_counted(trace: LoadedTrace) -> Iterator[Found]:
    """Yield the states of jobs whose shards have more samples than were labelled, or one sample twice. A job that was
    made before the recording may have learned from labels before."""
    made, labelled = _created(trace, "incremental-jobs"), dict[str, set[str]]()
    for _, _, label in _payloads(trace, topics.LABEL, Annotation):
        labelled.setdefault(label.job, set()).add(label.task)
    shards: dict[str, dict[int, ShardRef]] = {}
    for each, number, job in _resources(trace, IncrementalLearningJob):
        if job.name not in made:
            continue
        known = shards.setdefault(job.metadata.uid, {})
        before = {number: shard.weights.digest for number, shard in known.items()}
        known.update({shard.number: shard for shard in job.status.loop.shards})
        samples, most = sum(shard.samples for shard in known.values()), len(labelled.get(job.queue, ()))
        if samples > most:
            yield each, Difference(each.address, number, "status.loop.shards", f"at most {most} samples, as many as "
                                   "have labels", str(samples))  # fmt: skip
        if before != {number: shard.weights.digest for number, shard in known.items()}:
            for twice in _repeated(trace, known):
                yield each, Difference(each.address, number, "status.loop.shards", "each sample in one shard",
                                       f"{twice} in two")  # fmt: skip


def _unjudged(trace: LoadedTrace) -> Iterator[Found]:
    """Yield desired documents in which a version serves, or is on trial, that no gate has passed before."""
    jobs = [job for _, _, job in _resources(trace, IncrementalLearningJob) if job.spec.location == "cloud"]
    trained = {learned.model.name for job in jobs for learned in job.spec.models}
    services = {service.name for _, _, service in _resources(trace, JointInferenceService)
                if service.spec.edge_worker.model.name in trained}  # fmt: skip
    usable = _registered(trace, {job.metadata.uid for job in jobs})
    passed = {report.candidate: each.number for each, _, report in _payloads(trace, topics.VERDICT, VerdictReport)
              if report.figures.decision == "passes"}  # fmt: skip
    for each, number, desired in _payloads(trace, topics.TASK, Desired):
        for place, task in enumerate(desired.tasks):
            if not isinstance(task, InferTask) or task.job not in services:
                continue
            candidate = task.candidate.model if task.candidate is not None else None
            for field, ref in (("model", task.model), ("candidate", candidate)):
                if ref is None or ref.digest in usable or passed.get(ref.digest, each.number) < each.number:
                    continue
                yield each, Difference(each.address, number, f"tasks[{place}].{field}", "a version that a gate has "
                                       "passed, or that somebody has registered", ref.digest)  # fmt: skip


def _registered(trace: LoadedTrace, jobs: set[str]) -> set[str]:
    """Return the digests of all versions that none of these jobs has made."""
    found: set[str] = set()
    for _, _, model in _resources(trace, Model):
        found |= {version.weights.digest for version in model.status.versions if version.job not in jobs}
        if model.spec.weights is not None:
            found.add(model.spec.weights.digest)
    return found


def _repeated(trace: LoadedTrace, shards: Mapping[int, ShardRef]) -> Iterator[str]:
    """Yield the samples that are in two shards, as far as the trace has their files."""
    seen: set[str] = set()
    for shard in shards.values():
        content = trace.weights.get(shard.weights.digest)
        if content is None:
            continue
        try:
            with TensorFile(content, f"shard {shard.number}") as file:
                ids = ids_of(file)
        except Refused:
            continue  # its worker says so
        yield from (each for each in ids if each in seen)
        seen.update(ids)


def _created(trace: LoadedTrace, plural: str) -> set[str]:
    """Return the names of the resources that were made while the trace was recorded."""
    found = (each.data for each in trace.of(topics.REQUEST, resource=plural, verb="create"))
    metadata = (each.get("metadata") for each in found if isinstance(each, dict))
    return {str(each.get("name")) for each in metadata if isinstance(each, dict)}


def _payloads(trace: LoadedTrace, topic: Topic[Any], kind: type[Any]) -> Iterator[tuple[RecordedMessage, int, Any]]:
    """Yield the messages of a topic with their numbers at their address, from 1, and their payloads; those that no
    receiver reads are left out."""
    counts: dict[str, int] = {}
    for each in trace.of(topic):
        number = counts[each.address] = counts.get(each.address, 0) + 1
        try:
            payload = topic.validate(each.data, each.address)
        except Refused:
            continue
        assert isinstance(payload, kind)
        yield each, number, payload


def _resources(trace: LoadedTrace, kind: type[R]) -> Iterator[tuple[RecordedMessage, int, R]]:
    """Yield the states of all resources of a kind likewise."""
    counts: dict[str, int] = {}
    for each in trace.of(topics.STATUS, resource=kind.plural):
        number = counts[each.address] = counts.get(each.address, 0) + 1
        try:
            resource = parse_resource(each.data, each.address) if each.data else None
        except Refused:
            continue
        if isinstance(resource, kind):
            yield each, number, resource
