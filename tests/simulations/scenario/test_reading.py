"""Reading scenarios: the shipped ones are valid, and a refusal names file, line, field, expected and actual value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import HeliographError, Refused
from heliograph.simulations.scenario import fields
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.quantities import duration_text, parse_seconds
from heliograph.simulations.scenario.scenario_files import find_scenario, parse_scenario, read_scenario, shipped

SMALL = """\
name: small
duration: 10m
edges:
  - {number: 3}
links:
  outages:
    - {at: 1m, for: 10s}
jobs:
  - name: one
    rounds: 5
"""
NAMES = ["byzantine", "cold-start", "factory-week", "flaky-links", "non-iid", "quickstart", "stragglers",
         "ten-thousand-edges"]  # fmt: skip


def test_eight_scenarios_ship() -> None:
    assert list(shipped()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_is_valid_and_expects_a_phase_of_each_job(name: str) -> None:
    scenario = read_scenario(find_scenario(name))
    assert scenario.name == name
    assert scenario.description
    assert {each.field.split(".")[1] for each in scenario.expect if each.field.endswith(".phase")} == {
        job.name for job in scenario.jobs
    }


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: small\n", "", "a.yaml:1 field name: expected a value, got nothing"),
        ("small", "Small_One", "a.yaml:1 field name: expected a DNS label"),
        ("10m", "10 minutes", "a.yaml:2 field duration: expected a duration, as in 7d, 1h30m, 45s or 250ms"),
        ("10m", "0", "a.yaml:2 field duration: expected greater than 0, got 0"),
        ("{number: 3}", "{number: 0}", "a.yaml:4 field edges[0].number: expected greater than or equal to 1, got 0"),
        ("{number: 3}", "{number: 10001}", "a.yaml:4 field edges[0].number: expected less than or equal to 10000"),
        ("{number: 3}", "{number: 3, spede: 2}", "a.yaml:4 field edges[0].spede: expected no such field, got 2. "
         "There are number, name, speed, memory."),
        ("{number: 3}", "{number: 3, speed: [2, 1]}", "expected the lower value first"),
        ("{number: 3}", "{number: 3, speed: 0}", "a.yaml:4 field edges[0].speed"),
        ("{number: 3}", "{number: 3}\n  - {number: 3}", "a.yaml:5 field edges[1].name: expected another name"),
        ("links:", "data: {partition: alike}\nlinks:", "a.yaml:5 field data.partition: expected iid, or dirichlet:"),
        ("links:", "data: {set: mnist}\nlinks:", "a.yaml:5 field data.set: expected 'digits' or 'synthetic', got"),
        ("links:", "data: {samples: 1700}\nlinks:", "a.yaml:5 field data.samples: expected with held_out at most 1797"),
        ("links:", "data: {samples: 5}\nlinks:", "a.yaml:5 field data.samples: expected at least 2 for each of 3"),
        ("links:", "links:\n  loss: 0.9", "a.yaml:6 field links.loss"),
        ("links:", "links:\n  bandwidth: fast", "expected a size, as in 250 kB or 2 MB"),
        ("{at: 1m, for: 10s}", "{at: 1m}", "a.yaml:7 field links.outages[0]: expected at and for"),
        ("{at: 1m, for: 10s}", "{mean_up: 1m, for: 10s}", "a.yaml:7 field links.outages[0]: expected at and for"),
        ("{at: 1m, for: 10s}", "{at: 1m, for: 10s, every: 5s}", "expected every to be longer than for"),
        ("{at: 1m, for: 10s}", "{at: 1m, for: 10s, edges: [edge-4]}",
         "a.yaml:7 field links.outages[0].edges[0]: expected an edge or a group"),
        ("{at: 1m, for: 10s}", "{at: 1m, for: 10s, edges: 4}", "expected at most 3, the number of edges, got 4"),
        ("rounds: 5", "rounds: five", "a.yaml:10 field jobs[0].rounds: expected"),
        ("rounds: 5", "at: 11m", "a.yaml:10 field jobs[0].at: expected less than duration, 600 s, got 660"),
        ("rounds: 5", "participants: 4", "a.yaml:10 field jobs[0].participants: expected at most 3, the number"),
        ("rounds: 5", "quorum: 4", "a.yaml:10 field jobs[0].quorum: expected at most 3, the participants of a round"),
        ("rounds: 5", "algorithm: Guess", "a.yaml:10 field jobs[0].algorithm: expected one of Bulyan, "),
        ("rounds: 5", "parameters: {norm_bound: -1}", "a.yaml:10 field jobs[0].parameters.norm_bound: expected"),
        ("rounds: 5", "parameters: {momentum: 1}", "field jobs[0].parameters.momentum: expected no such field"),
        ("rounds: 5", "rounds: 5\n  - name: one", "a.yaml:11 field jobs[1].name: expected another name"),
        ("rounds: 5", "rounds: 5\n    training: {momentum: 1}", "jobs[0].training.momentum: expected no such field"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in SMALL
    assert message in _error(tmp_path, SMALL.replace(before, after, 1))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("kind: meteor", "faults[0].kind: expected 'crash-agent', "),
        ("kind: crash-agent, targets: [edge-1]", "faults[0].for: expected a value: crash-agent needs it, got nothing"),
        ("kind: crash-agent, for: 1m", "faults[0].targets: expected a value: crash-agent needs it"),
        ("kind: crash-agent, targets: [edge-9], for: 1m", "faults[0].targets[0]: expected an edge or a group, such as"),
        ("kind: crash-worker, targets: all, for: 1m", "faults[0].for: expected no such field with crash-worker"),
        ("kind: crash-coordinator, for: 1m, targets: all", "faults[0].targets: expected no such field with crash-coor"),
        ("kind: byzantine, targets: 0.3", "faults[0].behaviour: expected a value"),
        ("kind: byzantine, targets: 0.3, behaviour: rude", "faults[0].behaviour: expected 'nan', 'wrong-shape'"),
        ("kind: byzantine, targets: 1.5, behaviour: nan", "faults[0].targets"),
        ("kind: straggler, targets: all, amount: -1", "faults[0].amount: expected a factor above 0"),
        ("kind: slow-link, targets: all, amount: 1d, for: 1m", "faults[0].amount: expected a latency from 0 to 600 s"),
        ("kind: wrong-clock, targets: [coordinator], for: 1m", "faults[0].amount: expected a value"),
        ("kind: partition, targets: [cloud], for: 1m", "faults[0].targets[0]: expected an edge or a group"),
        ("kind: partition, targets: all, for: 1m, at: 1h", "faults[0].at: expected less than duration, 600 s"),
    ],
)
def test_an_impossible_fault_is_refused(tmp_path: Path, fault: str, message: str) -> None:
    assert message in _error(tmp_path, SMALL + f"faults:\n  - {{{fault}}}\n")


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ("field: jobs.two.accuracy, minimum: 1", "a.yaml:12 field expect[0].field: expected jobs.NAME.FIELD with NAME "
         "of one, got jobs.two.accuracy"),
        ("field: jobs.one.speed, minimum: 1", "jobs.one.FIELD with FIELD of phase, accuracy, "),
        ("field: edges.edge-4.late, minimum: 1", "expected edges.NAME.FIELD with NAME of edge-1, edge-2, edge-3"),
        ("field: weather, minimum: 1", "expected jobs.NAME.FIELD, edges.FIELD, edges.NAME.FIELD or run.FIELD"),
        ("field: run.duration.x, minimum: 1", "expected jobs.NAME.FIELD"),
        ("field: jobs.one.accuracy", "expect[0]: expected minimum, maximum or both; or equals, got none of them"),
        ("field: jobs.one.accuracy, equals: 1, minimum: 1", "got both kinds"),
        ("field: jobs.one.accuracy, minimum: 0.9, maximum: 0.5", "expect[0].minimum: expected at most maximum, 0.5"),
        ("field: jobs.one.accuracy, minimum: 1.1", "expect[0].minimum: expected at most 1, the maximum of jobs.one"),
        ("field: jobs.one.rounds, minimum: 6", "expect[0].minimum: expected at most 5, the maximum of jobs.one.rounds"),
        ("field: edges.lost, maximum: -1", "expect[0].maximum: expected 0 or more, like edges.lost"),
        ("field: jobs.one.phase, minimum: 1", "expect[0].equals: expected one of Pending, Running, Succeeded"),
        ("field: jobs.one.phase, equals: Done", "expect[0].equals: expected one of Pending, Running, Succeeded"),
        ("field: jobs.one.rounds, equals: five", "expect[0].equals: expected a number"),
        ("field: jobs.one.accuracy, minimum: __import__('os')", "expect[0].minimum: expected a valid number"),
    ],
)  # fmt: skip
def test_an_unreachable_expectation_is_refused(tmp_path: Path, expectation: str, message: str) -> None:
    assert message in _error(tmp_path, SMALL + f"expect:\n  - {{{expectation}}}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.yaml: expected one scenario, got an empty file"),
        (b"- 1\n- 2", "a.yaml: expected one scenario, got 2 documents"),
        (b"just text", "a.yaml:1: expected a mapping with name, edges, jobs and so on, got just text"),
        (b"name: a\nname: b", "a.yaml:2 field name: expected each field once, got the same field again"),
        (b"name: !!python/object:os.system {}", "a.yaml:1: not YAML"),
        (b"name: {" * 200, "a.yaml:1: not YAML: nested too deeply"),
        (b"\xff\xfe\x00", "a.yaml:1: expected text in UTF-8, got other bytes"),
        (b"#" * 300_000, "a.yaml: expected at most 262144 bytes, got more"),
        (b"a: &a [*a]", "a.yaml:1: expected a tree, got an alias inside itself"),
    ],
)
def test_a_file_without_a_scenario_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in _error(tmp_path, content)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HeliographError, match=r"quikstart.* did you mean quickstart"):
        find_scenario("quikstart")
    with pytest.raises(HeliographError, match="there is no such file"):
        find_scenario("nowhere/x.yaml")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from([*Scenario.model_fields, "x"]), inner, max_size=6), max_leaves=12))  # fmt: skip
def test_any_document_is_read_or_refused(tree: Any) -> None:
    try:
        parse_scenario(tree)
    except Refused as error:
        assert error.expected


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(d: int, h: int, m: int, s: int) -> None:
    assert parse_seconds(f"{d}d{h}h{m}m{s}s") == ((d * 24 + h) * 60 + m) * 60 + s


def test_durations_are_formatted_in_two_units() -> None:
    assert [duration_text(each) for each in (0, 0.25, 59, 61, 3600, 90_000, 7 * 86400)] == [
        "0s", "0.25s", "59s", "1m 1s", "1h", "1d 1h", "7d"
    ]  # fmt: skip


def test_every_field_is_described() -> None:
    for known in (fields.JOB, fields.EDGES, fields.EDGE, fields.RUN):
        assert all(each.doc for each in known.values())


def _error(tmp_path: Path, content: str | bytes) -> str:
    file = tmp_path / "a.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HeliographError) as refused:
        read_scenario(file)
    return str(refused.value).replace(f"{tmp_path}/", "")
