"""Rounds whose weights are blobs, in virtual time: over bad links and through kills they count as others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.bus.traces.reading import TraceReader
from heliograph.simulations.scenario.play import RunRequest, play_virtual
from heliograph.simulations.scenario.scenario_files import parse_scenario
from heliograph.workers.aggregation import blocks

ROUNDS = 5
LINKS = {"latency": "50ms", "bandwidth": "200 kB/s", "loss": 0.02}
FAULTS: list[dict[str, Any]] = [
    {"kind": "crash-agent", "targets": ["edge-1", "edge-2"], "at": "8s", "for": "5s"},
    {"kind": "crash-coordinator", "at": "14s", "for": "4s"},
    {"kind": "crash-worker", "targets": ["edge-3"], "at": "22s"},
    {"kind": "partition", "targets": 0.5, "at": "30s", "for": "10s"},
]


def _played(
    monkeypatch: pytest.MonkeyPatch, path: Path, inline: int, faults: list[dict[str, Any]],
    links: dict[str, Any] = LINKS,
) -> list[Aggregation]:  # fmt: skip
    for module in (weights_file, blocks):
        monkeypatch.setattr(module, "INLINE", inline)
    document = {
        "name": "x", "duration": 3600, "edges": [{"number": 6}],
        "links": links,
        "data": {"set": "digits", "seconds_per_sample": "20ms"}, "faults": faults,
        "jobs": [{"name": "one", "rounds": ROUNDS, "training": {"learning_rate": 0.3, "local_epochs": 3}}],
    }  # fmt: skip
    outcome = play_virtual(RunRequest(parse_scenario(document), 5, path))
    (found,) = outcome.jobs.values()
    assert found.values()["phase"] == "Succeeded"
    with TraceReader(path) as reader:
        messages = list(reader.messages())
    assert not [each.topic for each in messages if each.topic.startswith("edge/") and "/blob-" in each.topic]
    closed = [each for each in messages if AGGREGATION.match(each.topic) is not None]
    return [AGGREGATION.validate(decode(each.body).data, each.topic) for each in closed]


def test_blobs_make_the_same_models_as_weights_inside_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    models = {}
    for inline in (100, 256 * 1024):
        closed = _played(monkeypatch, tmp_path / f"{inline}.mcap", inline, [])
        assert all(each.model is not None and (each.model.inline is None) == (inline == 100) for each in closed)
        assert all(len(each.counted) == 6 for each in closed if each.round)
        models[inline] = [each.model.digest for each in closed if each.model is not None]
    assert models[100] == models[256 * 1024]


def test_rounds_go_on_when_agents_and_coordinator_are_killed_and_links_are_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = _played(monkeypatch, tmp_path / "run.mcap", 100, FAULTS)
    counted = {each.round: len(each.counted) for each in closed}
    assert set(range(1, ROUNDS + 1)) <= set(counted)
    assert all(counted[round] for round in range(1, ROUNDS + 1))
    assert sum(each.duration_seconds for each in closed) > 40, "the job runs while the faults happen"
    assert not [reason for each in closed for reason in each.refused]


@pytest.mark.parametrize(
    "inline", [pytest.param(100, marks=pytest.mark.long), 256 * 1024], ids=["blobs", "inside"]
)
@pytest.mark.parametrize(
    ("latency", "bandwidth", "loss"), [("50ms", "200 kB/s", 0.3), ("3s", "2.5 kB/s", 0.05)], ids=["lossy", "thin"]
)
def test_each_update_counts_once_over_links_that_are_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inline: int, latency: str, bandwidth: str, loss: float
) -> None:
    links = {"latency": latency, "bandwidth": bandwidth, "loss": loss}
    closed = _played(monkeypatch, tmp_path / "run.mcap", inline, [], links)
    assert [each.round for each in closed] == list(range(ROUNDS + 1))
    assert all(len(each.counted) == 6 and not each.refused and not each.late for each in closed if each.round)
