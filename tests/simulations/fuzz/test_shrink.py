"""Shrinking, with made-up failures: the result still fails, and nothing can be left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heliograph.simulations.fuzz.draw import draw
from heliograph.simulations.fuzz.learning_plan import LearningJob
from heliograph.simulations.fuzz.plan import Edge, Fault, Job, Plan
from heliograph.simulations.fuzz.shrink import shrink


def _has(*kinds: str) -> Callable[[Plan], bool]:
    return lambda plan: set(kinds) <= {each.kind for each in plan.faults}


@given(st.integers(0, 10_000), st.sets(st.integers(0, 30), min_size=1, max_size=3))
def test_only_the_essential_faults_are_left(seed: int, places: set[int]) -> None:
    plan = draw(seed)
    assume(plan.faults)
    culprits = {plan.faults[place % len(plan.faults)].kind for place in places}
    fails = _has(*culprits)
    found = shrink(plan, fails, most=1000)
    assert fails(found.plan) and found.plan.is_consistent()
    assert sorted(each.kind for each in found.plan.faults) == sorted(culprits)
    assert len(found.plan.jobs) == 1 and found.plan.jobs[0].rounds == 1
    assert not found.plan.learning and not found.plan.pairs
    assert len(found.plan.edges) <= len(culprits)


def test_numbers_become_shorter_and_rounder() -> None:
    plan = Plan(seed="1", edges=(Edge(name="edge-1", speed=2.31, latency=0.077),), disk_seconds=0.03,
                jobs=(Job(name="blob-1", at=3.77, rounds=4, quorum=1, participants=1),),
                faults=(Fault(kind="slow", target="edge-1", at=4.56, duration=6.78, amount=1.23, steps=77),),
                )  # fmt: skip
    found = shrink(plan, lambda plan: bool(plan.faults) and plan.faults[0].duration > 2.0)
    (fault,) = found.plan.faults
    assert (fault.at, fault.amount, fault.steps) == (5.0, 1.0, 0) and 2.0 < fault.duration <= 4.0
    assert found.plan == Plan(seed="1", edges=(Edge(name="edge-1", every=0.0),), faults=(fault,),
                              jobs=(Job(name="tiny-1", rounds=1),))  # fmt: skip


@pytest.mark.parametrize("most", [0, 1, 7])
def test_shrinking_stops_at_the_limit_of_runs(most: int) -> None:
    runs: list[Plan] = []

    def fails(plan: Plan) -> bool:
        runs.append(plan)
        return _has("crash-agent")(plan)

    plan = next(plan for seed in range(100) if _has("crash-agent")(plan := draw(seed)))
    found = shrink(plan, fails, most)
    assert len(runs) == found.runs == most
    assert _has("crash-agent")(found.plan)


def test_a_learning_job_keeps_only_what_the_failure_needs() -> None:
    plan = next(plan for seed in range(200) if len((plan := draw(seed)).learning) == 2 and plan.pairs)

    def fails(plan: Plan) -> bool:
        return any(job.location == "edge" and job.samples > 2 for job in plan.learning)

    assert fails(plan)
    (job,) = shrink(plan, fails, most=2000).plan.learning
    assert job == LearningJob(name=job.name, location="edge", edges=job.edges, samples=job.samples)
    assert len(job.edges) == 1 and 3 <= job.samples <= 5
