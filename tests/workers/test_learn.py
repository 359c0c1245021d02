"""The learn worker: which assignments are work, what it sends, and the verdict of the gate."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import pytest_asyncio

from heliograph.bus.contract.payloads import Assignment, Candidate, LearnTask, VerdictReport
from heliograph.bus.contract.resources import GateRule, ShardRef, WeightsRef
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.gate import Outcome
from heliograph.workers.learn import LearnWorkerSession, figures_of
from heliograph.workers.runtime import Runtime

pytestmark = pytest.mark.asyncio


def _ref(value: float) -> WeightsRef:
    content = dumps({"w": np.full(2, value, np.float32)})
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), inline=content)


def _assignment(**changes: Any) -> Assignment:
    shard = ShardRef(number=1, samples=2, weights=_ref(3))
    fields: dict[str, Any] = {
        "worker": "j-learn-m", "job": "j", "job_uid": "u", "round": 1, "learns": "m", "model": _ref(1),
        "shards": [shard], "classes": ["a", "b"],
    }  # fmt: skip
    return Assignment(task=LearnTask(**{**fields, **changes}), edge="cloud")


class _Worker:
    """A session whose runtime keeps what it is given to send."""

    def __init__(self, directory: Path) -> None:
        self.sent: list[Any] = []
        self.reported: list[str] = []

        async def send(topic: Any, payload: Any, **params: str) -> None:
            self.sent.append(payload)

        async def stage_upload(ref: WeightsRef) -> WeightsRef:
            return ref

        async def report_state(state: str) -> None:
            self.reported.append(state)

        environment = SimpleNamespace(edge="cloud", directory=directory)
        runtime = SimpleNamespace(environment=environment, send=send, stage_upload=stage_upload,
                                  report_state=report_state)  # fmt: skip
        self.session = LearnWorkerSession(cast(Runtime, runtime), asyncio.get_running_loop())

    async def next(self, *assignments: Assignment) -> Any:
        for each in assignments:
            self.session.put(each)
        return await asyncio.to_thread(self.session.next_learning)


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> _Worker:
    return _Worker(tmp_path)


async def test_each_step_and_attempt_is_work_once(worker: _Worker) -> None:
    work = await worker.next(_assignment(active=False), _assignment())
    assert (work.kind, work.round, work.champion, len(work.shards)) == ("train", 1, None, 1)
    again = await worker.next(_assignment(), _assignment(attempt=2))
    assert again.kind == "train"
    measured = await worker.next(_assignment(step="evaluate", model=_ref(2), champion=_ref(1), attempt=2))
    assert measured.kind == "evaluate" and measured.champion is not None
    assert await worker.next(_assignment().model_copy(update={"ended": True})) is None


async def test_a_candidate_says_what_it_was_trained_from(worker: _Worker) -> None:
    await worker.next(_assignment(attempt=2))
    weights, memory = {"w": np.ones(2, np.float32)}, {"x": np.zeros((1, 2), np.float32)}
    await asyncio.to_thread(worker.session.send_candidate, weights, ["a", "b"], memory, 2, {"loss": 0.5}, 1.5)
    (made,) = worker.sent
    assert isinstance(made, Candidate)
    assert (made.model, made.round, made.attempt, made.base, made.num_samples) == ("m", 1, 2, _ref(1).digest, 2)
    assert made.weights.inline is not None and made.memory is not None
    with TensorFile(made.weights.inline, "candidate") as file:
        assert file.metadata["attempt"] == "2", "another attempt is another file"


async def test_a_verdict_names_both_models_and_a_first_model_is_measured_alone(worker: _Worker) -> None:
    await worker.next(_assignment(step="evaluate", gate=GateRule(least_support=2), evaluation="e" * 64))
    ids = [hashlib.sha256(bytes([number])).hexdigest() for number in range(40)]
    labels = ["a", "b"] * 20
    await asyncio.to_thread(worker.session.send_answers, ids, labels, labels, None, {"f1": 1.0}, {})
    (report,) = worker.sent
    assert isinstance(report, VerdictReport)
    assert (report.candidate, report.champion) == (_ref(1).digest, None)
    assert (report.figures.decision, report.figures.candidate, report.figures.support) == ("passes", 1.0, 40)
    assert report.figures.metrics == {"f1": 1.0} and report.figures.evaluation == "e" * 64


@pytest.mark.parametrize(
    ("outcomes", "metrics", "decision", "reason"),
    [
        ([], {}, "undecided", "the evaluation set has no sample"),
        ([Outcome(str(n), "a", "b", "a") for n in range(300)], {"loss": float("nan")}, "fails", "metric loss is nan"),
        ([Outcome(str(n), "a", "b", "a") for n in range(300)], {"loss": float("inf")}, "fails", "metric loss is inf"),
        ([Outcome(str(n), "a", "a", "b") for n in range(300)], {}, "fails", "gain"),
        ([Outcome(str(n), "a", "b", "a") for n in range(20)], {}, "undecided", "20 samples, at least 200"),
    ],
)
async def test_nothing_passes_by_being_empty_or_no_number(
    outcomes: list[Outcome], metrics: dict[str, float], decision: str, reason: str
) -> None:
    figures = figures_of(GateRule(), outcomes, "e" * 64, metrics, {"loss": 0.5, "gain": float("nan")})
    assert figures.decision == decision and any(reason in each for each in figures.reasons)
    assert figures.champion_metrics == {"loss": 0.5}, "the champion's own speak not against the candidate"
