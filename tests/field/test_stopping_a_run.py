"""A run that is interrupted, fails or runs out of disk: what was learned is kept, and it is said where."""

from __future__ import annotations

import asyncio
import csv
import errno
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.payloads import Aggregation, UncountedUpdate
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.local.edge_counts import EdgeCounts
from heliograph.local.kept_models import KeptModels
from heliograph.local.run_folder import RunFolder
from heliograph.local.run_metrics import RunMetrics
from tests.patience import HANGS

SLOW = """
import threading, numpy as np
from base import load, step, acc
from heliograph import FederatedLearning, dataset
x, y = load(dataset()); w = {"w": np.zeros((64, 10), "f4")}
for r in FederatedLearning(w, evaluate=lambda: acc(w, x, y)).rounds():
    step(w, x, y); print("trained in", r.number, flush=True)
    if r.number == 4: threading.Event().wait()
"""


def _closed(round: int, counted: list[str], **more: Any) -> Aggregation:
    model = more.pop("model", None)
    return Aggregation(job="j", job_uid="u", round=round, counted=dict.fromkeys(counted, "d" * 64), model=model,
                       reason="complete", **more)  # fmt: skip


async def test_03_ctrl_c_in_round_4_keeps_the_model_of_round_3(
    alone: Any, project: Path, digits: Path, tmp_path: Path
) -> None:
    script, model, folder = project / "slow.py", tmp_path / "model.safetensors", tmp_path / "run"
    script.write_text(SLOW)
    process = await alone.start("run", script, "--data", digits, "--edges", "2", "--test", "0.2", "--out", model,
                                "--folder", folder, "-v")  # fmt: skip
    seen = ""
    async with asyncio.timeout(HANGS):  # the evaluation of round 3 comes before or after round 4 has begun
        while "edge-1: trained in 4" not in seen or not re.search(r"round +3/10 .*accuracy=|round 3 evaluated", seen):
            line = await process.stdout.readline()
            assert line, seen
            seen += line.decode()
    process.send_signal(signal.SIGINT)
    out, err = (each.decode() for each in await process.communicate())
    assert (process.returncode, err) == (130, "")
    assert "edge-1, edge-2: counted in rounds 1-3\n" in out
    assert f"the model of round 3: {model}\n" in out
    assert re.search(rf"the best one, of round \d, accuracy 0\.\d+: {folder}/best.safetensors\n", out)
    assert f"the log: {folder}/log.txt\n" in out
    with TensorFile(model) as kept:
        assert abs(kept.numpy("w")).sum() > 0
    assert (folder / "model.safetensors").read_bytes() == model.read_bytes()
    names = sorted(file.name for file in (folder / "models").iterdir())
    assert names == [f"round-000{n}.safetensors" for n in (1, 2, 3)]
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["counted"]) for row in rows] == [("1", "2"), ("2", "2"), ("3", "2")]
    assert 0 < float(rows[-1]["test.accuracy"]) < 1
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [str(line.get("test.accuracy", "")) for line in lines] == [row["test.accuracy"] for row in rows]
    assert "agent edge-1:" in (folder / "log.txt").read_text()


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Any]:
    """Return ``kept(full=(), max_bytes=...)``: the kept models of a folder, and the lines that they report.

    The disk is full once for each round of ``full``.
    """

    def make(full: tuple[int, ...] = (), lost: tuple[int, ...] = (), max_bytes: int = 1000) -> Any:
        left, said = list(full), []

        async def fetch(ref: WeightsRef, target: Path) -> None:
            round = int(target.stem.removeprefix("round-"))
            if round in left:
                left.remove(round)
                raise OSError(errno.ENOSPC, "No space left on device")
            if round in lost:
                raise PermissionError("not allowed")
            target.parent.mkdir(exist_ok=True)
            target.write_text(ref.digest)

        folder = RunFolder(tmp_path)
        return KeptModels(folder, fetch, said.append, max_bytes), folder, said

    return make


def _ref(round: int, size: int = 300) -> WeightsRef:
    return WeightsRef(digest=f"{round:064x}", size=size, bucket="models")


def _names(folder: RunFolder) -> list[int]:
    return sorted(int(file.stem.removeprefix("round-")) for file in folder.models.iterdir())


async def test_models_beyond_the_bound_go_but_not_the_best_and_the_last_two(kept: Callable[..., Any]) -> None:
    models, folder, said = kept()
    for round, accuracy in enumerate((0.3, 0.9, 0.5, 0.6, 0.7, 0.8), 1):
        await models.keep(round, _ref(round))
        models.evaluated(round, {"accuracy": accuracy, "loss": 1.0})
    assert _names(folder) == [2, 5, 6]
    assert folder.best.read_text() == _ref(2).digest
    assert folder.model.read_text() == _ref(6).digest
    assert (models.best_round, models.best, said) == (2, ("accuracy", 0.9), [])


async def test_a_full_disk_costs_old_models_and_never_the_last(kept: Callable[..., Any]) -> None:
    models, folder, said = kept(full=(4,), max_bytes=10_000)
    for round in range(1, 5):
        await models.keep(round, _ref(round))
    assert _names(folder) == [3, 4]
    assert folder.model.read_text() == _ref(4).digest
    assert said == []


async def test_a_model_that_cannot_be_fetched_leaves_the_one_before(kept: Callable[..., Any]) -> None:
    models, folder, said = kept(lost=(2, 3))
    for round in range(1, 4):
        await models.keep(round, _ref(round))
    assert (models.last_round, folder.model.read_text()) == (1, _ref(1).digest)
    assert said == [f"the model of round {n} is not kept: not allowed" for n in (2, 3)]


@pytest.mark.parametrize(
    ("metrics", "best"),
    [([{"loss": 2.0}, {"loss": 1.0}, {"loss": 3.0}], 2), ([{"f1": 0.1}, {"f1": 0.9}, {"f1": 0.2}], 2),
     ([{"val_mse": 5.0}, {"val_mse": 7.0}, {"val_mse": 4.0}], 3), ([{}, {}, {}], 0)],
)  # fmt: skip
async def test_the_best_model_is_that_of_least_loss_or_of_most_accuracy(
    kept: Callable[..., Any], metrics: list[dict[str, float]], best: int
) -> None:
    models, _, _ = kept()
    for round, each in enumerate(metrics, 1):
        await models.keep(round, _ref(round))
        models.evaluated(round, each)
    assert models.best_round == best


async def test_a_round_that_counts_nobody_changes_no_model(kept: Callable[..., Any]) -> None:
    models, folder, _ = kept()
    await models.keep(1, _ref(1))
    await models.keep(2, _ref(1))
    await models.keep(3, None)
    assert (models.last_round, _names(folder)) == (1, [1])


def test_04_an_edge_that_never_counts_is_named_with_its_reason() -> None:
    counts = EdgeCounts([f"edge-{n}" for n in range(1, 11)])
    good = [f"edge-{n}" for n in range(1, 9)]
    bad = {"edge": "edge-9", "digest": "d" * 64, "reason": "field w: expected finite values, got nan"}
    for round in range(6):
        late = [UncountedUpdate(edge="edge-10", round=round - 1, digest="d" * 64, reason="closed")] if round > 1 else []
        refused = [UncountedUpdate(round=round, **bad)] if round else []
        counts.add(_closed(round, good, refused=refused, late=late))
    assert counts.uncounted == ["edge-9", "edge-10"]
    assert counts.lines() == [
        "edge-9: never counted; refused in rounds 1-5: field w: expected finite values, got nan",
        "edge-10: never counted; too late for rounds 1-4; missing in round 5",
        "edge-1, edge-2, edge-3, edge-4, edge-5, edge-6 and 2 more: counted in rounds 1-5",
    ]


def test_two_hundred_edges_are_summed_up_in_a_few_lines() -> None:
    edges = [f"edge-{n}" for n in range(1, 201)]
    counts = EdgeCounts(edges)
    for round in range(1, 51):
        counts.add(_closed(round, edges if round % 2 else edges[:100]))
    assert [len(line) < 120 for line in counts.lines()] == [False, True]
    assert counts.lines()[1].endswith("and 94 more: counted in rounds 1-50")
    assert counts.uncounted == []


def test_without_a_closed_round_nobody_is_blamed() -> None:
    counts = EdgeCounts(["edge-1"])
    counts.add(_closed(0, ["edge-1"]))
    assert (counts.lines(), counts.uncounted) == ([], [])


def test_a_metric_that_comes_later_gets_a_column(tmp_path: Path) -> None:
    metrics = RunMetrics(tmp_path / "m.jsonl", tmp_path / "m.csv", evaluated=True)
    for number in range(7):
        metrics.closed(_closed(number, ["edge-1"], metrics={"loss": 1 / (number + 1)}), "2026-11-21T20:00:00Z")
        if number in (2, 4):
            metrics.evaluated(number, {"accuracy": number / 10})
    metrics.finish()
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row["test.accuracy"] for row in rows] == ["", "0.2", "", "0.4", "", ""]
    assert [round(float(row["train.loss"]), 2) for row in rows] == [0.5, 0.33, 0.25, 0.2, 0.17, 0.14]
