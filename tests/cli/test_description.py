"""``describe`` and the lines of ``events``: pure functions of documents and payloads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heliograph.bus.contract.clock_offset import clock_offset_header
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.topics import AGGREGATION, HARD_SAMPLE, LABEL, MODEL_UPDATE, TELEMETRY
from heliograph.bus.nats.history import Stored
from heliograph.cli.events.event_text import MOST, summary
from heliograph.cli.events.happened import Happened, as_json, line_of, patterns_of, read
from heliograph.cli.events.since import parse_since
from heliograph.cli.resources.description import ENTRIES, NEWEST, lines_of
from heliograph.cli.usage import UsageError

NOW = 1_000_000.0
JOB: dict[str, Any] = {
    "kind": "FederatedTask",
    "metadata": {"name": "digits", "uid": "u", "generation": 2, "creationTimestamp": "1970-01-12T13:46:00Z",
                 "createdBy": "alice", "labels": {"team": "a"}},
    "spec": {"rounds": 12, "aggregationWorker": {"model": {"name": "m"}}, "empty": []},
    "status": {
        "phase": "Running",
        "rounds": [{"round": number, "metrics": {"loss": 0.5}} for number in range(12)],
        "conditions": [{"type": "Ready", "status": "False", "reason": "Missing", "message": "no edge",
                        "lastTransitionTime": "1970-01-12T13:46:00Z"}],
        "weights": "A" * 4000,
    },
}  # fmt: skip


def test_a_description_names_everything_once_and_cuts_what_is_long() -> None:
    lines = [*lines_of(JOB, None, NOW)]
    assert lines[:5] == [
        "Name:             digits",
        "Kind:             FederatedTask",
        "Created:          1970-01-12T13:46:00Z (40s ago, by alice)",
        "Labels:           team=a",
        "Annotations:      <none>",
    ]
    text = "\n".join(lines)
    assert "Spec:\n  rounds: 12\n  aggregationWorker:\n    model:\n      name: m\n  empty: []\n" in text
    assert f"  rounds:\n    … {12 - NEWEST} before these\n    - round: {12 - NEWEST}\n      metrics:\n" in text
    assert "  weights: " + "A" * 60 + "… (4 kB)\n" in text
    assert lines[-2:] == [
        "  TYPE   STATUS  REASON   SINCE  MESSAGE",
        "  Ready  False   Missing  40s    no edge",
    ]
    assert not any("Events" in line for line in lines)


def test_events_follow_where_they_may_be_read() -> None:
    event = Happened("event/aggregation/digits", "aggregation", ("digits",), 0.0, "cloud/x", {"round": 1})
    assert [*lines_of(JOB, [event], NOW)][-1].endswith("aggregation       digits                    round=1")
    assert [*lines_of(JOB, [], NOW)][-1] == "Events:           <none in the last hour>"


@pytest.mark.parametrize("document", [{}, {"metadata": 3, "spec": [], "status": "x"}, {"status": {"conditions": 7}},
                                      {"spec": {str(number): number for number in range(100)}}])  # fmt: skip
def test_a_document_of_another_shape_is_described_too(document: Any) -> None:
    lines = [*lines_of(document, None, NOW)]
    assert lines[0].startswith("Name: ")
    assert len(lines) < ENTRIES + 20


def test_an_event_is_one_line() -> None:
    data = {"job": "digits", "job_uid": "u", "round": 0, "base": "cd" * 32,
            "weights": {"digest": "ab" * 32, "size": 1500}, "edge": "e",
            "num_samples": 40, "metrics": {"loss": 0.51234567}, "stop": False, "list": [1, 2], "raw": b"12345",
            "text": "two words"}  # fmt: skip
    assert summary(data) == (
        "round=0 base=cdcdcdcdcdcd weights=abababababab(1.5kB) num_samples=40 loss=0.5123 list=[2] raw=5B "
        'text="two words"'
    )
    assert len(summary({f"key-{number}": "x" * 50 for number in range(100)})) <= MOST + 2
    unreadable = Happened("event/aggregation/digits", "aggregation", ("digits",), 0.0, trouble="no event\x1b[2J")
    assert line_of(unreadable).endswith("unreadable: no event [2J")


def test_an_event_is_json_whatever_it_holds() -> None:
    data = {"a": float("nan"), "b": b"xyz", "c": "NaN"}
    event = Happened("event/telemetry/e/d", "telemetry", ("e", "d"), 0.0, "e/d", data)
    assert json.loads(as_json(event), parse_constant=pytest.fail) == {
        "topic": "event/telemetry/e/d", "time": "1970-01-01T00:00:00.000000Z", "source": "e/d",
        "data": {"a": "NaN", "b": "eHl6", "c": "NaN"},
    }  # fmt: skip


def test_the_topics_that_name_a_resource() -> None:
    topics = [MODEL_UPDATE, AGGREGATION, HARD_SAMPLE, LABEL, TELEMETRY]
    assert patterns_of(topics, None) == [topic.filter() for topic in topics]
    assert patterns_of(topics, ("edges", "e1")) == [
        "edge/e1/up/model-update/+", "edge/e1/up/hard-sample/+", "edge/e1/up/label/+", "event/telemetry/e1/+"
    ]  # fmt: skip
    assert patterns_of([MODEL_UPDATE, TELEMETRY], ("jobs", "j")) == ["edge/+/up/model-update/j"]
    assert "edge/+/up/hard-sample/s" in patterns_of([*declared().topics], ("services", "s"))
    assert patterns_of(topics, ("models", "m")) == []


def test_times_in_the_past() -> None:
    assert parse_since("10m", NOW) == NOW - 600
    assert parse_since("1h30m", NOW) == NOW - 5400
    assert parse_since("1970-01-12T13:46:40Z", NOW) == NOW
    for text in ("", "soon", "-5m", "10", "99999d", "2026-13-01", "2999-01-01", "1900-01-01"):
        with pytest.raises(UsageError):
            parse_since(text, NOW)


def test_an_event_of_a_clock_that_was_set_since_has_the_right_time() -> None:
    event = encode(Event(id="1", source="edge-1/meter/x", type="t", data={}, time="1970-01-01T00:01:00.000000Z"))
    address = TELEMETRY.at(edge="edge-1", device="meter")
    assert read(Stored(address, event, 2e9, clock_offset_header(NOW - 60))).time == NOW
    assert read(Stored(address, event, 2e9)).time == 60.0
