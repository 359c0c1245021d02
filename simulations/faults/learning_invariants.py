"""The invariants of learning jobs in a settled run, whatever its faults. Pure: from the evidence to its violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from heliograph.bus.contract.resources import LearningRound, LoopState
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.membership import HeldOut
from heliograph.simulations.faults.invariants import Violation


@dataclass(frozen=True)
class LoopEvidence:
    """One loop as it is stored: that of a job in the cloud, or that of one edge.

    Attributes:
        labelled: the samples with a label.
        open: number of tasks that wait for labels.
        shards: number of each shard that the loop has named, with the ids of its samples.
        rounds: the rounds that are kept.
        goes_on: whether it learns what is labelled: its job is neither stopped nor at its end.
        own: the version that an edge has deployed by itself.
    """

    node: str
    uid: str
    goes_on: bool
    state: LoopState
    labelled: set[str]
    open: int
    shards: Mapping[int, list[str]]
    rounds: list[LearningRound]
    own: WeightsRef | None = None

    @property
    def in_shards(self) -> list[str]:
        """The samples of all shards; one that is in two comes twice."""
        return [id for ids in self.shards.values() for id in ids]

    @property
    def waiting(self) -> set[str]:
        """Samples with a label that are in no shard."""
        return self.labelled.difference(self.in_shards)


@dataclass(frozen=True)
class LearningEvidence:
    """The input of the invariants: one incremental job.

    Attributes:
        phase: of the job; empty where it was deleted.
        held_out: per cent of the samples that no training sees.
        accepted: by place, the samples whose label was accepted, as a labeller was told.
        read: by node, number of each shard that a worker has read, with the ids of its samples; None where nobody saw
            the workers.
        trained: by node, the samples that the training of each round has learned.
        serving, named: by edge, digest of the version that answers, and of the one that the status names.
        answered: by edge, digests of all versions that have answered.
        evaluated: digests of the first version, and of those that a gate has passed.
    """

    job: str
    phase: str
    held_out: int
    accepted: Mapping[str, set[str]]
    loops: list[LoopEvidence]
    read: Mapping[str, Mapping[int, set[str]]] | None = None
    trained: Mapping[str, Mapping[int, set[str]]] = field(default_factory=dict)
    serving: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[str, set[str]] = field(default_factory=dict)
    evaluated: set[str] = field(default_factory=set)


def check_learning(evidence: LearningEvidence) -> list[Violation]:
    """Return all violations; an empty list if all invariants hold."""
    invariants: tuple[Callable[[LearningEvidence], Iterator[str]], ...] = (
        no_learning_job_fails,
        no_labelled_sample_is_lost,
        what_no_deployed_version_learned_waits,
        no_sample_counts_twice,
        a_shard_is_what_was_noted,
        no_unevaluated_version_serves,
        what_serves_is_what_the_status_names,
    )
    return [Violation(each.__name__, text) for each in invariants for text in each(evidence)]


def no_learning_job_fails(evidence: LearningEvidence) -> Iterator[str]:
    """Check that the job goes on, or has ended as it should: a fault that ends must not make it fail."""
    if evidence.phase == "Failed":
        yield f"job {evidence.job} has failed"


def no_labelled_sample_is_lost(evidence: LearningEvidence) -> Iterator[str]:
    """Check that each sample whose label was accepted has it, and that a job which goes on has learned it."""
    for loop in evidence.loops:
        where = f"job {evidence.job} on {loop.node}"
        accepted = evidence.accepted.get(loop.node, set())
        if lost := accepted - loop.labelled:
            yield f"{where}: of {len(accepted)} samples whose label was accepted {len(lost)} have none: {_some(lost)}"
        if loop.goes_on and loop.waiting:
            yield f"{where}: of {len(loop.labelled)} labelled samples {len(loop.waiting)} are in no shard: " \
                  f"{_some(loop.waiting)}"  # fmt: skip


def what_no_deployed_version_learned_waits(evidence: LearningEvidence) -> Iterator[str]:
    """Check that each sample for trainings has been learned by a version that was deployed, or lies in a shard that the
    next training learns: a training that fails, and a candidate that is refused or rolled back, lose none."""
    rule = HeldOut(evidence.held_out)
    for loop in evidence.loops:
        if evidence.read is None or not _has_all_rounds(loop):
            continue
        deployed = [each.round for each in loop.rounds
                    if any(outcome.decision == "deployed" for outcome in each.models.values())]  # fmt: skip
        trained = evidence.trained.get(loop.node, {})
        learned = {id for round in deployed for id in trained.get(round, ())}
        kept = {id for shard in loop.state.shards for id in loop.shards.get(shard.number, ())}
        lost = {id for id in loop.in_shards if id not in learned | kept and id not in rule}
        if lost:
            yield (f"job {evidence.job} on {loop.node}: no deployed version has learned {len(lost)} samples, and none "
                   f"will: {_some(lost)}")  # fmt: skip


def _has_all_rounds(loop: LoopEvidence) -> bool:
    """Return whether a loop is between two rounds, and all of its rounds are kept."""
    return loop.state.step == "waiting" and [each.round for each in loop.rounds] == [*range(1, loop.state.round + 1)]


def no_sample_counts_twice(evidence: LearningEvidence) -> Iterator[str]:
    """Check that each sample is in one shard, and that the rounds have counted each as new once."""
    rule = HeldOut(evidence.held_out)
    for loop in evidence.loops:
        where = f"job {evidence.job} on {loop.node}"
        found = loop.in_shards
        if len(set(found)) < len(found):
            twice = {id for id in found if found.count(id) > 1}
            yield f"{where}: {len(twice)} samples are in two shards: {_some(twice)}"
        if _has_all_rounds(loop):
            counted, new = sum(each.samples for each in loop.rounds), len({id for id in found if id not in rule})
            waiting = sum(each.samples for each in loop.state.shards if not each.round and not each.held_out)
            if counted + waiting != new:
                yield f"{where}: its rounds have counted {counted} samples as new, {waiting} wait, and there are {new}"


def a_shard_is_what_was_noted(evidence: LearningEvidence) -> Iterator[str]:
    """Check that the shards which workers have read are those whose samples are stored as used."""
    for loop in evidence.loops:
        for number, ids in sorted((evidence.read or {}).get(loop.node, {}).items()):
            if ids != set(loop.shards.get(number, ())):
                yield (f"job {evidence.job} on {loop.node}: a worker has read {len(ids)} samples in shard {number}, "
                       f"and {len(loop.shards.get(number, ()))} are noted")  # fmt: skip


def no_unevaluated_version_serves(evidence: LearningEvidence) -> Iterator[str]:
    """Check that each version that has answered anybody was the first one, or had passed a gate."""
    for edge, digests in sorted(evidence.answered.items()):
        for each in sorted(digests - evidence.evaluated):
            yield f"job {evidence.job}: {edge} has answered with {each[:12]}, which no gate has passed"


def what_serves_is_what_the_status_names(evidence: LearningEvidence) -> Iterator[str]:
    """Check that each edge answers with the version that the status names for it."""
    for edge, named in sorted(evidence.named.items()):
        if (serving := evidence.serving.get(edge, "")) != named:
            yield f"job {evidence.job}: {edge} serves {serving[:12] or 'nothing'}, and {named[:12]} is named"


def _some(ids: set[str]) -> str:
    found = sorted(ids)
    return ", ".join(each[:12] for each in found[:5]) + (", …" if len(found) > 5 else "")
