"""The golden traces: each of their components publishes the recorded messages again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.bus.contract import registry, topics
from heliograph.simulations.check.loaded_trace import LoadedTrace
from heliograph.testing import TraceUnderTest

Trace = Callable[[str], TraceUnderTest]
TRACES = Path(__file__).parents[2] / "traces"
PLAYED = [
    *((kind, component) for kind in ("flaky", "federated") for component in ("coordinator", "aggregation", "agent")),
    ("joint", "coordinator"),
    ("joint", "agent"),
    ("labels", "coordinator"),
    ("learning", "coordinator"),
    ("learning", "agent"),
    ("pairs", "coordinator"),
]


@pytest.mark.parametrize(("kind", "component"), PLAYED)
async def test_a_component_publishes_the_recorded_messages(trace: Trace, kind: str, component: str) -> None:
    run = await trace(f"{kind}.mcap").replay(component)  # type: ignore[arg-type]
    assert run.published == run.recorded
    assert (run.differences, run.missing, run.fed) == ([], [], run.inputs)
    assert run.equal and run.recorded


def test_every_trace_is_small_and_checked() -> None:
    traces = sorted(TRACES.glob("*.mcap"))
    assert {each.stem for each in traces} == {kind for kind, _ in PLAYED}
    sizes = [each.stat().st_size for each in traces]
    assert max(sizes) < 300_000
    assert sum(sizes) < 1_000_000


def test_every_feature_that_the_coordinator_runs_has_a_golden_trace() -> None:
    run = {plural for plural, each in registry.BUILT_IN.features.items() if each.coordinator}
    traces = map(LoadedTrace.read, TRACES.glob("*.mcap"))
    recorded = {each.params["resource"] for trace in traces for each in trace.of(topics.STATUS)}
    # a simulated cloud has no accounts to let anybody into: the tests of the broker and of enrolment play these
    assert run - recorded == {"invitations", "users"}, "record one in simulations/check/golden.py"


def test_a_replay_is_the_same_each_time(trace: Trace) -> None:
    one, other = (trace("flaky.mcap").replay_sync("coordinator") for _ in range(2))
    assert (one.published, one.notes) == (other.published, other.notes)
