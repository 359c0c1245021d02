"""Plans: drawn from the seed alone, playable, and unchanged by writing and reading."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import HeliographError
from heliograph.simulations.fuzz import failure
from heliograph.simulations.fuzz.draw import FAULT_WINDOW, draw
from heliograph.simulations.fuzz.learning_plan import ActVerb, LearningJob, PairJob
from heliograph.simulations.fuzz.plan import Edge, Fault, Hostile, Job, Plan

SEEDS = st.integers(0, 1 << 32)


@given(SEEDS)
def test_a_drawn_plan_can_be_played(seed: int) -> None:
    plan = draw(seed)
    assert plan == draw(seed)
    assert plan.is_consistent()
    assert 2 <= len(plan.edges) <= 5
    assert plan.jobs and plan.end < 2 * FAULT_WINDOW
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    parts = (plan.edges, plan.jobs, plan.learning, plan.pairs, plan.faults, plan.rogues, plan.hostiles)
    assert len(str(plan).splitlines()) == 1 + sum(map(len, parts))


def test_seeds_differ_and_reach_every_kind_of_fault() -> None:
    plans = [draw(seed) for seed in range(100)]
    assert len({plan.model_dump_json() for plan in plans}) == 100
    assert len({fault.kind for plan in plans for fault in plan.faults}) == 14
    assert len({act.kind for plan in plans for act in plan.hostiles}) == 6
    assert 20 < len([plan for plan in plans if not plan.hostiles and not plan.rogues]) < 50
    jobs = [job for plan in plans for job in plan.learning]
    assert {job.location for job in jobs} == {"cloud", "edge"} and any(plan.pairs for plan in plans)
    assert {act.verb for job in jobs for act in job.acts} == {*get_args(ActVerb)}
    assert 20 < len([plan for plan in plans if plan.learning]) < 50


EDGES = (Edge(name="edge-1"), Edge(name="edge-2"))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed="s", edges=(EDGES[0], EDGES[0])),
        Plan(seed="s", edges=EDGES, faults=(Fault(kind="cut", target="edge-3", at=1),)),
        Plan(seed="s", edges=EDGES, jobs=(Job(name="tiny-1", quorum=3),)),
        Plan(seed="s", edges=EDGES, learning=(LearningJob(name="learn-1", edges=("edge-3",)),)),
        Plan(seed="s", edges=EDGES, learning=(LearningJob(name="learn-1", edges=("edge-1",), node="edge-3"),)),
        Plan(seed="s", edges=EDGES, pairs=(PairJob(name="pair-1", node="edge-3"),)),
        Plan(seed="s", edges=EDGES, rogues=("edge-1",)),
        Plan(seed="s", edges=EDGES, hostiles=(Hostile(kind="bad-updates", target="edge-1", at=1),)),
        Plan(seed="s", edges=EDGES, rogues=("rogue",), hostiles=(Hostile(kind="bad-device", target="rogue", at=1),)),
        Plan(seed="s", edges=EDGES, faults=(
            Fault(kind="crash-agent", target="edge-1", at=1, duration=2),
            Fault(kind="full-disk", target="edge-1", at=2, duration=2),
        )),
    ],
)  # fmt: skip
def test_an_unplayable_plan_is_refused(plan: Plan, tmp_path: Path) -> None:
    assert not plan.is_consistent()
    with pytest.raises(HeliographError, match="overlap"):
        failure.read(failure.write(plan, tmp_path / "plan.json"))


def test_a_file_without_a_plan_is_refused_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"seed": "1", "edges": [{"name": "edge-1", "colour": 1}]}')
    with pytest.raises(HeliographError, match=r"edges\.0\.colour"):
        failure.read(file)
    with pytest.raises(HeliographError, match="No such file"):
        failure.read(tmp_path / "none.json")
