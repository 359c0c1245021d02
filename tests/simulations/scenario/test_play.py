"""Scenarios played in virtual time and on real processes: determinism, faults, and refusals with their reasons."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.simulations.scenario import play, real_stage
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.observer import Observer
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.scenario_files import parse_scenario
from heliograph.simulations.scenario.timeline import draw_edges


def _scenario(**parts: Any) -> Scenario:
    small = {"name": "x", "duration": 600, "edges": [{"number": 4}], "data": {"set": "synthetic"},
             "jobs": [{"name": "one", "rounds": 3, "deadline": 20, "training": {"hidden": 8}}]}  # fmt: skip
    return parse_scenario(small | parts)


def _played(scenario: Scenario, seed: int = 1) -> Outcome:
    return play.play_virtual(play.RunRequest(scenario, seed))


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the hash of all messages of the following runs."""
    seen = hashlib.sha256()
    observe = Observer.observe

    def observe_and_hash(self: Observer, recorded: Recorded) -> None:
        seen.update(f"{recorded.topic} {recorded.log_time}".encode() + recorded.body)
        observe(self, recorded)

    monkeypatch.setattr(Observer, "observe", observe_and_hash)
    return seen


def test_the_same_seed_is_the_same_run_to_the_last_byte(bodies: Any) -> None:
    outages = {"latency": [0.01, 0.1], "loss": 0.05, "outages": [{"mean_up": 10, "mean_down": 3}]}
    scenario, found = _scenario(links=outages), []
    for seed in (1, 1, 2):
        before = bodies.hexdigest()
        _played(scenario, seed)
        found.append((before, bodies.hexdigest()))
    again = hashlib.sha256()
    assert found[0][0] == again.hexdigest()
    outcomes = [_played(scenario, seed).as_dict() for seed in (1, 1, 2)]
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_faults_take_effect_and_the_job_goes_on() -> None:
    faults = [
        {"kind": "crash-agent", "targets": ["edge-2"], "at": 1, "for": 30},
        {"kind": "crash-coordinator", "at": 3, "for": 5},
        {"kind": "crash-worker", "targets": ["edge-3"], "at": 1.5},
        {"kind": "crash-worker", "targets": ["edge-3"], "at": 2.5},
        {"kind": "slow-link", "targets": ["edge-3"], "at": 0, "for": 4, "amount": 0.5},
        {"kind": "full-disk", "targets": ["edge-3"], "at": 5, "for": 2},
        {"kind": "wrong-clock", "targets": ["coordinator", "edge-4"], "at": 0, "for": 100, "amount": "1h"},
        {"kind": "byzantine", "targets": ["edge-4"], "behaviour": "nan"},
        {"kind": "partition", "targets": ["edge-3"], "at": 8, "for": 2},
        {"kind": "straggler", "targets": ["edge-1"], "amount": 3},
    ]
    outcome = _played(_scenario(faults=faults))
    job = outcome.jobs["one"].values()
    assert (job["phase"], job["lost"], job["counted_twice"]) == ("Succeeded", 0, 0)
    assert job["refused"] == 3
    assert outcome.edges["edge-4"].counted == 0
    assert outcome.edges["edge-2"].outages


def test_the_run_ends_with_its_duration_if_a_job_does_not() -> None:
    outages = {"outages": [{"at": 0.5, "for": 500}]}
    outcome = _played(_scenario(links=outages, duration=100))
    assert outcome.jobs["one"].values()["phase"] == "Running"
    assert 90 < outcome.duration <= 100


@pytest.mark.parametrize(
    ("parts", "field", "message"),
    [
        ({"edges": [{"number": 17}]}, "edges", "at most 16 edges with --real"),
        ({"duration": "7d"}, "duration", "it runs in real time"),
        ({"links": {"loss": 0.1}}, "links.loss", "TCP"),
    ],
)
def test_a_scenario_beyond_real_processes_is_refused_with_a_hint(parts: Any, field: str, message: str) -> None:
    scenario = _scenario(**parts)
    with pytest.raises(Refused, match=message) as refused:
        real_stage.check_playable(scenario, draw_edges(scenario))
    assert refused.value.field == field
    assert "without --real" in refused.value.hint


@pytest.mark.long
async def test_real_processes_play_the_same_scenario() -> None:
    faults = [{"kind": "byzantine", "targets": ["edge-2"], "behaviour": "huge-num-samples"},
              {"kind": "partition", "targets": ["edge-1"], "at": 0.5, "for": 1}]  # fmt: skip
    scenario = _scenario(edges=[{"number": 2}], faults=faults)
    outcome = await play.play_real(play.RunRequest(scenario, 1))
    job = outcome.jobs["one"].values()
    assert (job["phase"], job["rounds"], job["refused"]) == ("Succeeded", 3, 3)
    assert (job["lost"], job["counted_twice"]) == (0, 0)
    assert outcome.edges["edge-2"].counted == 0
