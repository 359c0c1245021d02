"""The trace check of a job whose algorithm keeps a state between rounds, recorded in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.simulations.scenario.play import RunRequest, play_virtual
from heliograph.simulations.scenario.scenario_files import read_scenario
from heliograph.testing import TraceUnderTest

SCENARIO = """
name: kept
description: Two edges, and a server that keeps moments.
seed: 3
duration: 10m
edges: [{number: 2}]
data: {set: digits, partition: iid, seconds_per_sample: 1ms}
jobs:
  - {name: kept, rounds: 4, participants: all, algorithm: ToyMoments, training: {hidden: 8}}
"""


@pytest.fixture
def recorded(tmp_path: Path, installed_algorithms: Any) -> TraceUnderTest:
    installed_algorithms()
    document = tmp_path / "kept.yaml"
    document.write_text(SCENARIO)
    play_virtual(RunRequest(read_scenario(document), 3, tmp_path / "kept.mcap"))
    return TraceUnderTest(tmp_path / "kept.mcap")


def test_every_round_goes_on_from_the_same_state(recorded: TraceUnderTest) -> None:
    run = recorded.replay_sync("aggregation")
    assert run.complete, run.missing
    assert run.published == run.recorded
    states = [each.payload["state"] for each in run.published if each.payload["round"]]
    assert len(set(states)) == 4


def test_a_recording_that_begins_later_names_the_state_that_it_lacks(
    recorded: TraceUnderTest, edited: Callable[..., TraceUnderTest]
) -> None:
    def of_earlier_rounds(data: Any) -> bool:
        tasks = data["tasks"] if "tasks" in data else [data["task"]]
        return any(each["role"] == "aggregate" and each["round"] < 3 for each in tasks)

    def edit(topic: str, number: int, data: Any) -> bool:
        return not (topic.startswith(("edge/cloud/down/task", "event/assignment/")) and of_earlier_rounds(data))

    run = edited(recorded, edit).replay_sync("aggregation")
    assert any(line.startswith("the state that round 2 of job kept left, ") for line in run.missing)
