"""Incomplete traces: the check names the missing parts and checks the rest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.permissions import upload_bucket
from heliograph.core.errors import Refused
from heliograph.testing import TraceUnderTest

Trace = Callable[[str], TraceUnderTest]
Edited = Callable[..., TraceUnderTest]
UPDATE = "/up/model-update/line"


@pytest.fixture
def with_blobs(trace: Trace, edited: Edited) -> Callable[[bool], TraceUnderTest]:
    """Return a function that makes a trace whose updates name blobs, attached or not."""

    def make(attached: bool) -> TraceUnderTest:
        blobs: dict[str, bytes] = {}

        def edit(topic: str, number: int, data: Any) -> None:
            if topic.endswith(UPDATE):
                weights = data["weights"]
                blobs[weights["digest"]] = weights.pop("inline")
                weights["bucket"] = upload_bucket(topic.split("/")[1])

        return edited(trace("federated.mcap"), edit, blobs if attached else None)

    def write(attached: bool) -> TraceUnderTest:
        found = make(attached)
        return make(attached) if attached else found

    return write


def test_weights_come_from_the_attachments(with_blobs: Callable[[bool], TraceUnderTest]) -> None:
    run = with_blobs(True).replay_sync("aggregation")
    assert run.complete
    assert [each.payload["model"] for each in run.published] == [each.payload["model"] for each in run.recorded]


def test_missing_weights_are_named(with_blobs: Callable[[bool], TraceUnderTest]) -> None:
    run = with_blobs(False).replay_sync("aggregation")
    assert run.fed < run.inputs
    (line,) = [each for each in run.missing if "record with --with-blobs" in each]
    lost = run.inputs - run.fed
    assert line.startswith(f"weights of {lost} of {lost} updates are not in the trace (")


def test_an_agent_needs_no_weights(with_blobs: Callable[[bool], TraceUnderTest]) -> None:
    run = with_blobs(False).replay_sync("agent", edge="edge-1")
    assert run.equal, run.differences


def test_a_trace_without_inputs_for_the_component_is_refused(trace: Trace) -> None:
    with pytest.raises(Refused, match=r"inputs of the aggregation worker: event/assignment/\{worker\}"):
        trace("joint.mcap").replay_sync("aggregation")


def test_an_unknown_component_edge_or_job_is_refused(trace: Trace) -> None:
    joint = trace("joint.mcap")
    with pytest.raises(Refused, match="one of coordinator, aggregation, agent, got portal"):
        joint.replay_sync("portal")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="field edge: expected one of cloud, edge-1, got edge-7"):
        joint.replay_sync("agent", edge="edge-7")
    with pytest.raises(Refused, match="field edge: expected none"):
        joint.replay_sync("coordinator", edge="edge-1")
    with pytest.raises(Refused, match="field job: expected one of line, got digits"):
        trace("federated.mcap").replay_sync("aggregation", job="digits")


def test_only_one_job_is_compared(trace: Trace) -> None:
    run = trace("flaky.mcap").replay_sync("coordinator", job="digits")
    assert run.equal
    assert {each.topic for each in run.recorded if each.topic.startswith("status/")} == {"status/jobs/digits"}


def test_a_job_from_before_the_recording(trace: Trace, edited: Edited) -> None:
    run = edited(trace("flaky.mcap"), lambda topic, number, data: not topic.startswith("request/")).replay_sync(
        "coordinator"
    )
    assert not run.equal
    assert any(each.startswith("jobs/digits was created before the recording began") for each in run.missing)


def test_rounds_from_before_the_recording(trace: Trace, edited: Edited) -> None:
    def edit(topic: str, number: int, data: Any) -> bool:
        tasks = (data or {}).get("tasks", ())
        early = (data or {}).get("round", 9) < 3 or any(task["round"] < 3 for task in tasks)
        return not (early and (topic.endswith(UPDATE) or topic == "edge/cloud/down/task"))

    run = edited(trace("federated.mcap"), edit).replay_sync("aggregation")
    assert run.differences == []
    (line,) = run.missing
    assert line.startswith("job line: 3 closed rounds have no assignment in the trace; begin recording")


async def test_the_readable_part_of_a_cut_trace_is_checked(trace: Trace, tmp_path: Path) -> None:
    from heliograph.bus.traces.reading import TraceReader
    from heliograph.bus.traces.writing import TraceWriter

    chunked = tmp_path / "chunked.mcap"
    with TraceReader(trace("flaky.mcap").path) as reader, TraceWriter(chunked, chunk_size=20_000) as writer:
        for each in reader:
            writer.write(each)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(chunked.read_bytes()[: chunked.stat().st_size // 2])
    run = await TraceUnderTest(cut).replay("aggregation")
    assert run.differences == []
    assert 0 < len(run.recorded) < 7
    assert not run.complete
    assert all(each.startswith("not readable: ") for each in run.missing)


USERS_TEST = """
async def test_it(trace):
    run = await trace("flaky.mcap").replay("aggregation")
    assert run.published == run.recorded

def test_something_else_was_recorded(trace):
    run = trace("flaky.mcap").replay_sync("aggregation")
    run.recorded[2].payload["counted"]["edge-9"] = "0" * 64
    assert run.published == run.recorded

def test_no_such_trace(trace):
    trace("steady.mcap")
"""
LIGHT = """
import sys
import heliograph.testing.plugin
heavy = {"numpy", "pydantic", "msgpack", "nats", "mcap", "heliograph.testing.run", "heliograph.bus"} & set(sys.modules)
assert not heavy, heavy
"""


async def test_the_plugin_works_in_a_project_of_its_own(trace: Trace, tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "flaky.mcap").write_bytes(trace("flaky.mcap").path.read_bytes())
    (tmp_path / "test_field.py").write_text(USERS_TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-p", "heliograph.testing.plugin", "-p", "no:cacheprovider", "-q",
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert "2 failed, 1 passed" in output, output
    assert "the published messages differ from the recorded ones" in output
    assert f"event/aggregation/digits #3 field counted.edge-9: expected {'0' * 64}, got nothing" in output
    assert "there is no trace steady.mcap in " in output
    assert "record one with 'heliograph trace record steady.mcap'" in output


def test_the_plugin_is_light() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
