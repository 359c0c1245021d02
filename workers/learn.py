"""The learn worker: run the user's script for the rounds of an incremental learning job, train and evaluate."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from heliograph import script_process, session
from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Assignment, Candidate, LearnTask, VerdictReport
from heliograph.bus.contract.resources import GateFigures, GateRule
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.learning_progress import ClassRecall
from heliograph.bus.contract.weights_file import TensorFile, origin, write
from heliograph.gate import Gate, Outcome
from heliograph.incremental import class_names
from heliograph.session import LearnWork
from heliograph.workers.runtime import Runtime, log
from heliograph.workers.script import run_with_host
from heliograph.workers.script_end import ScriptEnd, end_of
from heliograph.workers.script_session import ScriptSession, open_weights, serve_session

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import Arrays

MAX_REASON = 1024
NO_CHAMPION = ""
"""What a model that is not there answers to every sample: no class has this name."""


class LearnWorkerSession(ScriptSession):
    """See ``heliograph.session.LearnSession``."""

    task_kind = LearnTask

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(runtime, loop)
        self._current: LearnTask | None = None
        self._done: tuple[object, ...] | None = None

    def begin(self) -> Assignment:
        session.learning = self
        first = self.wait_for_first()
        script_process.describe(self, self._runtime.environment.directory)
        return first

    def conclude(self, error: BaseException | None) -> ScriptEnd:
        self.close_loop(error)
        directory = self._runtime.environment.directory
        refused = script_process.a_child_was_refused(directory)
        return end_of(error, session.reached, refused, kind="IncrementalLearningJob")

    def next_learning(self) -> LearnWork | None:
        self.begin_looking()
        session.reached = "worked"
        while True:
            assignment = self.next_assignment()
            if assignment.ended:
                return None
            task = _task_of(assignment)
            key = _key_of(task)
            if not task.is_due or key == self._done:
                continue
            try:
                work = _work_of(task, assignment)
            except FileNotFoundError:  # dropped meanwhile: a newer step's files are being fetched
                log(f"round {task.round}: a file of it is not on this node any more; requesting the present assignment")
                self._call(self._runtime.report_state("hello"))
                continue
            self._done, self._current = key, task
            return work

    def send_candidate(
        self, arrays: Arrays, classes: Sequence[str], memory: Arrays | None, num_samples: int,
        metrics: dict[str, float], seconds: float,
    ) -> None:  # fmt: skip
        task = self._task()
        made = Candidate(
            job=task.job,
            job_uid=task.job_uid,
            round=task.round,
            attempt=task.attempt,
            edge=self.edge,
            model=task.learns,
            base=task.model.digest if task.model is not None else None,
            weights=self._staged(arrays, task, class_names.written(classes)),
            memory=self._staged(memory, task) if memory is not None else None,
            classes=list(classes),
            num_samples=num_samples,
            metrics=metrics,
            seconds=seconds,
        )
        self._call(self._send_candidate(made))

    def send_answers(
        self, ids: Sequence[str], labels: Sequence[str], candidate: Sequence[str], champion: Sequence[str] | None,
        metrics: dict[str, float], champion_metrics: dict[str, float],
    ) -> None:  # fmt: skip
        task = self._task()
        assert task.model is not None
        given = champion if champion is not None else [NO_CHAMPION] * len(ids)
        outcomes = [Outcome(*each) for each in zip(ids, labels, given, candidate, strict=True)]
        report = VerdictReport(
            job=task.job,
            job_uid=task.job_uid,
            round=task.round,
            attempt=task.attempt,
            edge=self.edge,
            model=task.learns,
            candidate=task.model.digest,
            champion=task.champion.digest if task.champion is not None else None,
            figures=figures_of(task.gate or GateRule(), outcomes, task.evaluation, metrics, champion_metrics),
        )
        self._call(self._runtime.send(topics.VERDICT, report, job=task.job, edge=self.edge))

    def _task(self) -> LearnTask:
        self.require_main_process()
        assert self._current is not None
        return self._current

    def _staged(self, arrays: Arrays, task: LearnTask, more: Mapping[str, str] | None = None) -> WeightsRef:
        """Write arrays as a file of this round and attempt: equal ones of two rounds are different files."""
        whose = origin(task.job_uid, task.round, self.edge) | {"attempt": str(task.attempt), "model": task.learns}
        return write(arrays, self._runtime.environment.directory / "staged", whose | dict(more or {}))

    async def _send_candidate(self, made: Candidate) -> None:
        weights = await self._runtime.stage_upload(made.weights)
        memory = await self._runtime.stage_upload(made.memory) if made.memory is not None else None
        placed = made.model_copy(update={"weights": weights, "memory": memory})
        await self._runtime.send(topics.CANDIDATE, placed, job=made.job, edge=made.edge)


def figures_of(
    rule: GateRule, outcomes: Sequence[Outcome], evaluation: str, metrics: Mapping[str, float],
    champion_metrics: Mapping[str, float],
) -> GateFigures:  # fmt: skip
    """Return the gate's verdict on a candidate, with its figures.

    An evaluation set without a sample decides nothing, and a metric that is no number speaks against the candidate.
    """
    usable, of_champion = _finite(metrics), _finite(champion_metrics)
    if not outcomes:
        return GateFigures(decision="undecided", reasons=["the evaluation set has no sample"], evaluation=evaluation,
                           metrics=usable, champion_metrics=of_champion)  # fmt: skip
    gate = Gate(margin=rule.margin, confidence=rule.confidence, floor=rule.floor, floors=rule.floors,
                most_lost=rule.most_lost, least_support=rule.least_support,
                least_class_support=rule.least_class_support)  # fmt: skip
    verdict = gate.judge(outcomes, evaluation)
    reasons = [f"metric {name} is {value}" for name, value in metrics.items() if name not in usable]
    return GateFigures(
        decision="fails" if reasons else verdict.decision,
        reasons=[reason[:MAX_REASON] for reason in (*reasons, *verdict.reasons)][:100],
        evaluation=evaluation,
        support=verdict.support,
        champion=verdict.champion,
        candidate=verdict.challenger,
        gain=verdict.gain,
        bound=verdict.bound,
        classes=_recalls(outcomes),
        metrics=usable,
        champion_metrics=of_champion,
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _recalls(outcomes: Sequence[Outcome]) -> dict[str, ClassRecall]:
    """Return the recall of every class, also of those with too few samples for the gate."""
    counted: dict[str, list[int]] = {}
    for each in outcomes:
        count = counted.setdefault(each.label, [0, 0, 0])
        count[0] += 1
        count[1] += each.champion == each.label
        count[2] += each.challenger == each.label
    return {
        label: ClassRecall(support=n, champion=before / n, candidate=after / n)
        for label, (n, before, after) in sorted(counted.items())
    }


def _work_of(task: LearnTask, assignment: Assignment) -> LearnWork:
    def opened(ref: WeightsRef | None) -> TensorFile | None:
        return open_weights(ref, assignment.files.get(ref.digest, "") if ref is not None else None)

    shards = [opened(shard.weights) for shard in task.shards]
    return LearnWork(
        kind=task.step,
        job=task.job,
        round=task.round,
        weights=open_weights(task.model, assignment.model_file),
        champion=opened(task.champion),
        shards=[shard for shard in shards if shard is not None],
        memory=opened(task.memory),
        classes=task.classes,
        parameters=task.parameters,
    )


def _key_of(task: LearnTask) -> tuple[object, ...]:
    """Return what makes a task another piece of work."""
    base = task.model.digest if task.model is not None else None
    return task.job_uid, task.round, task.step, task.attempt, base


def _task_of(assignment: Assignment) -> LearnTask:
    """Return the task; an agent launches this program for its role only."""
    assert isinstance(assignment.task, LearnTask)
    return assignment.task


async def serve(ready: Callable[[LearnWorkerSession], None]) -> None:
    """Serve the script until it has ended."""
    await serve_session(LearnWorkerSession, ready)


def main() -> int:
    """Run the worker process, and return its exit code."""
    return run_with_host(serve)


if __name__ == "__main__":
    sys.exit(main())
