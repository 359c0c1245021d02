"""Timelines drawn from a scenario and a seed: deterministic, ordered, and undone at their ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.scenario_files import find_scenario, parse_scenario, read_scenario
from heliograph.simulations.scenario.timeline import Change, draw_edges, draw_timeline

SPANS = st.tuples(st.integers(0, 900), st.integers(1, 400))
OUTAGES = st.lists(
    SPANS.map(lambda it: {"at": it[0], "for": it[1]})
    | SPANS.map(lambda it: {"mean_up": it[0] + 1, "mean_down": it[1]}),
    max_size=3,
)
FAULTS = st.lists(
    st.tuples(SPANS, st.sampled_from(["crash-agent", "partition", "full-disk"]), st.sampled_from(["all", 2, 0.3]))
    .map(lambda it: {"kind": it[1], "targets": it[2], "at": it[0][0], "for": it[0][1]}),
    max_size=4,
)  # fmt: skip


def _scenario(**parts: Any) -> Scenario:
    links = {"outages": parts.pop("outages", [])}
    whole = {"name": "x", "duration": 1000, "edges": [{"number": 4}, {"number": 2, "name": "far", "speed": [1, 2]}],
             "jobs": [{"name": "one"}], "links": links}  # fmt: skip
    return parse_scenario(whole | parts)


@given(OUTAGES, FAULTS, st.integers(0, 1000))
def test_changes_are_ordered_and_begin_and_end_in_turn(outages: Any, faults: Any, seed: int) -> None:
    scenario = _scenario(outages=outages, faults=faults)
    found = draw_timeline(scenario, seed)
    assert found == draw_timeline(scenario, seed)
    assert [each.at for each in found.changes] == sorted(each.at for each in found.changes)
    state: dict[tuple[str, str], bool] = {}
    for each in found.changes:
        assert 0 <= each.at < 1000
        assert state.get((each.action, each.target), False) != each.on
        state[each.action, each.target] = each.on
    for spans in found.outages.values():
        assert all(start < end for start, end in spans)
        assert all(end < start for (_, end), (start, _) in pairwise(spans))


def test_a_schedule_repeats_until_the_end() -> None:
    found = draw_timeline(_scenario(outages=[{"edges": ["far-1"], "at": 100, "for": 10, "every": 400}]))
    assert found.outages == {"far-1": [(100, 110), (500, 510), (900, 910)]}


def test_overlapping_outages_are_one() -> None:
    found = draw_timeline(_scenario(outages=[{"edges": ["far-1"], "at": 100, "for": 50}, {"at": 140, "for": 20}],
                               faults=[{"kind": "partition", "targets": ["far"], "at": 155, "for": 10}]))  # fmt: skip
    assert found.outages["far-1"] == [(100, 165)]
    assert found.outages["far-2"] == [(140, 165)]
    assert found.outages["edge-1"] == [(140, 160)]


def test_a_fault_without_an_end_is_not_undone() -> None:
    found = draw_timeline(_scenario(faults=[{"kind": "byzantine", "targets": ["edge-2"], "behaviour": "scale"}]))
    assert found.changes == (Change(0.0, "behaviour", "edge-2", True, 10.0, "scale"),)


def test_a_coordinator_is_a_target_of_its_own() -> None:
    faults = [{"kind": "crash-coordinator", "at": 5, "for": 2},
              {"kind": "wrong-clock", "targets": ["cloud"], "amount": "-1h", "at": 1, "for": 3}]  # fmt: skip
    assert draw_timeline(_scenario(faults=faults)).changes == (
        Change(1.0, "clock", "cloud", True, -3600.0), Change(4.0, "clock", "cloud", False, -3600.0),
        Change(5.0, "process", "coordinator"), Change(7.0, "process", "coordinator", False),
    )  # fmt: skip


def test_another_seed_is_another_timeline_and_one_more_edge_changes_no_other() -> None:
    one, other = (_scenario(edges=[{"number": number, "speed": [1, 2]}], outages=[{"mean_up": 100, "mean_down": 10}])
                  for number in (6, 7))  # fmt: skip
    assert draw_timeline(one, 1).outages != draw_timeline(one, 2).outages
    assert draw_edges(other, 1)[:6] == draw_edges(one, 1)
    assert {**draw_timeline(other, 1).outages, "edge-7": []} == {**draw_timeline(one, 1).outages, "edge-7": []}


def test_a_number_and_a_share_of_edges_are_drawn() -> None:
    def targets_of(targets: Any, seed: int = 1) -> list[str]:
        faults = [{"kind": "byzantine", "targets": targets, "behaviour": "nan"}]
        return [each.target for each in draw_timeline(_scenario(faults=faults), seed).changes]

    assert len(targets_of(3)) == 3
    assert len(targets_of(0.5)) == 3
    assert len({tuple(targets_of(3, seed)) for seed in range(20)}) > 5


def test_the_timeline_of_a_week_never_changes() -> None:
    """A timeline is equal on every machine and in every version, so that a recorded failure can be played again."""
    found = draw_timeline(read_scenario(find_scenario("factory-week")))
    assert [(each.at, each.action, each.target) for each in found.changes[:3]] == WEEK


WEEK = [(57.64, "link", "hall-b-8"), (153.431, "link", "hall-a-26"), (391.546, "link", "hall-b-8")]
