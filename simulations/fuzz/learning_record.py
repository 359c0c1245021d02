"""The computing of a run's learning jobs, and the record of what their workers have read, measured and served.

No process reads the record. It stands outside, sees every worker, and notes a violation when it happens.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heliograph.bus.contract.payloads import LearnTask, PairTask
from heliograph.bus.contract.resources import GateFigures, PairFigures, WeightsRef
from heliograph.bus.contract.resources.pair_plan import JointFigures
from heliograph.bus.contract.weights_file import dumps, write
from heliograph.core.errors import HeliographError
from heliograph.core.membership import HeldOut
from heliograph.simulations.faults.invariants import Violation
from heliograph.simulations.faults.job_chain import SIZES
from heliograph.simulations.fuzz.learning_plan import LearningJob, PairJob
from heliograph.simulations.fuzz.plan import Plan
from heliograph.simulations.virtual.learning_workload import ReadShard
from heliograph.simulations.virtual.workload import Computed

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

CLASSES = ("red", "green", "blue")
HELD_OUT = 30
"""Per cent of the labelled samples that candidates are measured on."""
ACCURATE = 0.5
"""Accuracy that a pair has to reach."""
SECONDS = 0.6
"""Duration of a training at speed 1."""
REPEATS_EVERY, SHARED_EVERY = 5, 4
"""A sample of so many comes again later, and of so many the same one comes on every edge."""


@dataclass
class LearnedShard:
    """A shard of one job on one node, as its worker has read it: by sample the index of its class."""

    digest: str
    held_out: bool
    labels: dict[str, int]


@dataclass
class Served:
    """The version that answers on a node, and the one on trial; empty for none."""

    digest: str = ""
    candidate: str = ""


@dataclass
class LearningRecord:
    """See the module. A ``LearningWorkload``.

    Attributes:
        violations: those seen so far.
        classes: the class of each sample that was found hard.
        accepted: by queue and place, the samples whose label was accepted, as a labeller was told.
        shards: by uid of the job, node and number, the shards that workers have read.
        trained: by uid of the job and node, the samples that the training of each round has learned.
        serving: by service and node, what answers there.
        sent: by service and edge, the number of hard samples found there.
    """

    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    accepted: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    shards: dict[tuple[str, str], dict[int, LearnedShard]] = field(default_factory=lambda: defaultdict(dict))
    trained: dict[tuple[str, str], dict[int, set[str]]] = field(default_factory=lambda: defaultdict(dict))
    serving: dict[tuple[str, str], Served] = field(default_factory=dict)
    sent: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self._learning: dict[str, LearningJob] = {each.name: each for each in self.plan.learning}
        self._pairs: dict[str, PairJob] = {each.name: each for each in self.plan.pairs}
        self._evaluated = {first_version(each).digest for each in self.plan.learning if each.declared}

    # a workload

    def learn(self, edge: str, task: LearnTask, base: Arrays, shards: Sequence[ReadShard]) -> Computed:
        if _fate("broken", task.job_uid, edge, str(task.round)) < self._learning[task.job].broken:
            raise HeliographError("the training script has failed")
        samples = self._read(edge, task, shards)
        self.trained[task.job_uid, edge][task.round] = samples
        for each in sorted(samples):
            if each in HeldOut(HELD_OUT):
                self._note("no_training_sees_what_a_gate_measures_with",
                           f"{task.job} on {edge} trains on {each[:12]}, which is held out")  # fmt: skip
        size = SIZES[self._learning[task.job].size]
        before = base["w"][:1] if base else np.zeros(1, np.float32)
        weights = np.resize(before * np.float32(0.5), size) + np.float32(_fate(*sorted(samples)))
        return Computed({"w": weights, "steps": np.array([len(samples)])}, len(samples), {}, SECONDS)

    def judge(self, edge: str, task: LearnTask, shards: Sequence[ReadShard]) -> GateFigures:
        assert task.model is not None
        support = len(self._read(edge, task, shards))
        passes = _fate("gate", task.model.digest) < self._learning[task.job].good
        if support and passes:
            self._evaluated.add(task.model.digest)
        return GateFigures(decision="undecided" if not support else "passes" if passes else "fails",
                           evaluation=task.evaluation, support=support, candidate=0.9, champion=0.8)  # fmt: skip

    def train_one(self, edge: str, task: PairTask) -> Computed:
        size = SIZES[self._pairs[task.job].size]
        return Computed({"w": np.full(size, _fate(task.step, edge), np.float32)}, 1, {}, SECONDS)

    def measure(self, edge: str, task: PairTask) -> PairFigures:
        assert task.edge is not None and task.cloud is not None
        good = _fate("pair", task.edge.digest) < self._pairs[task.job].good
        if good:
            self._evaluated |= {task.edge.digest, task.cloud.digest}
        return PairFigures(evaluation="1", measured_on=1, after=JointFigures(accuracy=0.9 if good else 0.1))

    def next_sample(self, edge: str, service: str) -> Arrays | None:
        job = self._learning.get(service)
        number = self.sent[service, edge]
        if job is None or number >= job.samples:
            return None
        self.sent[service, edge] = number + 1
        if number % REPEATS_EVERY == REPEATS_EVERY - 1:
            number -= 1
        place = 0 if number % SHARED_EVERY == SHARED_EVERY - 1 else 1 + job.edges.index(edge)
        arrays = {"x": np.array([place, number], np.float32)}
        self.classes[hashlib.sha256(dumps(arrays)).hexdigest()] = CLASSES[number % len(CLASSES)]
        return arrays

    def pause(self, service: str) -> float:
        return self._learning[service].pause if service in self._learning else 1.0

    def stands(self, digest: str) -> bool:
        return all(_fate("canary", digest) < each.steady for each in self.plan.learning)

    def serves(self, edge: str, service: str, digest: str, candidate: str) -> None:
        self.serving[service, edge] = Served(digest, candidate)
        for each in filter(None, (digest, candidate)):
            if each not in self._evaluated:
                self._note("no_unevaluated_version_serves",
                           f"{service} on {edge} serves {each[:12]}, which no gate has passed")  # fmt: skip

    # what was seen

    def _read(self, node: str, task: LearnTask, shards: Sequence[ReadShard]) -> set[str]:
        """Take note of the shards of a step, and return its samples: none may be in two shards, or with another label
        than its class."""
        known = self.shards[task.job_uid, node]
        where = f"{task.job} on {node}"
        for each in shards:
            number, labels = each.ref.number, dict(zip(each.ids, each.labels, strict=True))
            before = known.get(number)
            if before is not None:
                if before.digest != each.ref.weights.digest:
                    self._note("a_shard_never_changes", f"{where}: shard {number} was {before.digest[:12]}, and is "
                               f"{each.ref.weights.digest[:12]}")  # fmt: skip
                continue
            for other, shard in known.items():
                if twice := sorted(shard.labels.keys() & labels.keys()):
                    self._note("no_sample_counts_twice",
                               f"{where}: {len(twice)} samples of shard {number} are in shard {other} too")  # fmt: skip
            for id, label in labels.items():
                if task.classes[label] != self.classes.get(id):
                    self._note("a_shard_has_the_labels_that_were_given", f"{where}: shard {number} says that {id[:12]} "
                               f"is {task.classes[label]}, and it is {self.classes.get(id)}")  # fmt: skip
            known[number] = LearnedShard(each.ref.weights.digest, each.ref.held_out, labels)
        return {id for each in shards for id in each.ids}

    def _note(self, invariant: str, text: str) -> None:
        self.violations.append(Violation(invariant, text))


def first_version(job: LearningJob) -> WeightsRef:
    """Return the version that a job's model is declared with."""
    return write({"w": np.full(SIZES["tiny"], _fate(job.name), np.float32)}, Path("/nonexistent"))


def _fate(*what: str) -> float:
    """Return a number from 0 to 1 that depends on the words alone."""
    return int.from_bytes(hashlib.sha256("/".join(what).encode()).digest()[:6], "big") / (1 << 48)
