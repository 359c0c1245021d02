"""``trace check``: commands, their output and their exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.event import decode, encode
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.ed25519_signer import Ed25519Signer

TRACES = Path(__file__).parents[1] / "traces"


async def test_a_golden_trace_gives_no_differences(alone: Any) -> None:
    ran = await alone("trace", "check", TRACES / "flaky.mcap", "--component", "aggregation", "--job", "digits")
    assert (ran.code, ran.err) == (0, "")
    assert [line for line in ran.out.splitlines() if not line.startswith("signatures: ")] == [
        "TOPIC                    RECORDED  PUBLISHED  DIFFERENCES",
        "event/aggregation/{job}  7         7          -",
        "aggregation: fed 30 of 30 inputs; 0 differences in 7 messages",
    ]


async def test_differences_name_topic_and_field(alone: Any, tmp_path: Path) -> None:
    edited = tmp_path / "edited.mcap"
    with TraceReader(TRACES / "flaky.mcap") as reader, TraceWriter(edited) as writer:
        for each in reader:
            body = each.body
            if each.topic == "event/aggregation/digits":
                event = decode(body)
                reason = event.data["reason"].replace("quorum", "deadline")
                body = encode(replace(event, data=event.data | {"reason": reason}))  # without its signature
            writer.write(Recorded(each.topic, body, each.log_time, each.publish_time, each.headers, each.retained))
    ran = await alone("trace", "check", edited, "--component", "aggregation")
    assert ran.code == 1
    differences = [line for line in ran.out.splitlines() if line.startswith("differs: ")]
    assert differences
    assert all(" field reason: expected deadline, got quorum" in line for line in differences)
    assert ran.error == f"{edited}: {len(differences)} differences"


async def test_a_cut_trace(alone: Any, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mcap", tmp_path / "cut.mcap"
    with TraceReader(TRACES / "flaky.mcap") as reader, TraceWriter(whole, chunk_size=20_000) as writer:
        for each in reader:
            writer.write(each)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ran = await alone("trace", "check", cut, "--component", "aggregation")
    assert ran.code == 1
    assert "0 differences in " in ran.out
    assert ran.error.startswith(f"{cut}: the aggregation could not be fed completely (")
    assert "not readable: " in ran.error


@pytest.mark.long
async def test_bad_arguments_are_refused(alone: Any, tmp_path: Path) -> None:
    flaky = TRACES / "flaky.mcap"
    for words, message in (
        (["--component", "portal"], "--component: expected one of coordinator, aggregation, agent, got portal"),
        (["--component", "agent", "--edge", "edge-9"], "--edge: expected one of cloud, edge-1, edge-2, edge-3, edge-4"),
        (["--component", "coordinator", "--edge", "edge-1"], "--edge: expected none: only an agent has an edge"),
        (["--component", "aggregation", "--job", "line"], "--job: expected one of digits, got line"),
        (["--component", "coordinator", "--job", "line"], "--job: expected a job or service of the trace, got line"),
    ):
        ran = await alone("trace", "check", flaky, *words)
        assert ran.code == 2, words
        assert message in ran.error
    absent = await alone("trace", "check", TRACES / "joint.mcap", "--component", "aggregation")
    assert absent.code == 1
    assert "expected inputs of the aggregation worker" in absent.error
    foreign = tmp_path / "foreign.mcap"
    foreign.write_text("no trace")
    assert (await alone("trace", "check", foreign, "--component", "agent")).code == 1


async def test_signatures_in_a_trace_are_verified(alone: Any, tmp_path: Path) -> None:
    signer, signed = Ed25519Signer(bytes(32)), tmp_path / "signed.mcap"
    tampered = tmp_path / "tampered.mcap"
    with TraceReader(TRACES / "flaky.mcap") as reader, TraceWriter(signed) as writer, TraceWriter(tampered) as worse:
        for number, each in enumerate(reader):
            body = each.body
            if each.topic.endswith("/down/task"):
                event = replace(decode(body), subject=each.topic)
                body = encode(event, signer=signer)
            writer.write(replace(each, body=body))
            wrong = body
            if body is not each.body and number % 2:
                wrong = body[:-1] + bytes([body[-1] ^ 1])
            worse.write(replace(each, body=wrong))
    ran = await alone("trace", "check", signed, "--component", "aggregation", "--job", "digits")
    assert ran.code == 0, ran.err
    lines = [line for line in ran.out.splitlines() if line.startswith("signatures: ")]
    assert [line for line in lines if line.endswith(f" by key {signer.public.hex()[:12]}")]
    ran = await alone("trace", "check", tampered, "--component", "aggregation", "--job", "digits")
    assert ran.code == 1
    assert "signature does not hold: edge/" in ran.out
    assert "other bytes than those that were signed" in ran.out
