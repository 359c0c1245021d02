"""Plans of faults: every fault ends, and the seed decides everything."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from heliograph.simulations.faults.fault_plan import CATCH_UP, KINDS, Fault, part_of, plan

EDGES = ("edge-1", "edge-2", "edge-3")
seeds = st.integers(0, 2**32)
lengths = st.floats(0, 300)


@given(seeds, lengths)
def test_every_fault_begins_and_ends_within_the_run(seed: int, seconds: float) -> None:
    for fault in plan(seed, seconds, EDGES):
        assert 0 <= fault.at <= fault.end <= seconds + 0.001


@given(seeds, lengths)
def test_a_seed_gives_the_same_faults_each_time(seed: int, seconds: float) -> None:
    assert plan(seed, seconds, EDGES) == plan(seed, seconds, EDGES)


@given(seeds, lengths)
def test_two_faults_on_one_part_never_overlap(seed: int, seconds: float) -> None:
    last: dict[tuple[str, str], Fault] = {}
    for fault in plan(seed, seconds, EDGES):
        part = part_of(fault.kind, fault.target)
        assert part not in last or last[part].end < fault.at
        last[part] = fault


@given(seeds)
def test_a_run_of_some_minutes_sees_every_kind(seed: int) -> None:
    counts = Counter(fault.kind for fault in plan(seed, 180, EDGES))
    assert set(counts) == set(KINDS)


@given(seeds, lengths)
def test_one_server_of_a_cluster_is_away_at_a_time(seed: int, seconds: float) -> None:
    away = [fault for fault in plan(seed, seconds, EDGES, servers=3) if fault.kind == "kill-broker"]
    for fault, following in pairwise(away):
        assert fault.end + CATCH_UP <= following.at + 0.002


def test_each_server_of_a_cluster_is_killed_and_a_single_one_as_before() -> None:
    killed = {fault.target for fault in plan(1, 900, EDGES, servers=3) if fault.kind == "kill-broker"}
    assert killed == {"cloud", "cloud-2", "cloud-3"}
    assert {fault.target for fault in plan(1, 900, EDGES) if fault.kind == "kill-broker"} == {"cloud"}


def test_another_seed_gives_other_faults() -> None:
    assert plan(1, 90, EDGES) != plan(2, 90, EDGES)
    assert plan(1, 90, EDGES) == plan("1", 90, EDGES)
