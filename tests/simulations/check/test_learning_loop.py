"""The whole loop of incremental learning replayed from its golden trace, and what a check finds in a changed one."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads.labels import TENSOR
from heliograph.bus.contract.weights_file import dumps
from heliograph.incremental.shards import LabelledSample, write_shard
from heliograph.simulations.check.comparable import ComparedMessage
from heliograph.simulations.check.loaded_trace import LoadedTrace
from heliograph.simulations.check.loop_rules import broken_rules
from heliograph.testing import TraceUnderTest

Trace = Callable[[str], TraceUnderTest]
Edited = Callable[..., TraceUnderTest]
LABEL, TASK = "edge/cloud/up/label/line", "edge/edge-1/down/task"
JOB, MODEL = "status/incremental-jobs/line", "status/models/line"
SAMPLES, ROUND_SAMPLES = 32, 8


def _of(published: list[ComparedMessage], topic: str) -> list[Any]:
    return [each.payload for each in published if each.topic == topic]


def test_the_whole_loop_is_replayed_from_a_trace(trace: Trace) -> None:
    """From the samples, requests, candidates, verdicts and counts alone the coordinator makes the rest again."""
    run = trace("learning.mcap").replay_sync("coordinator")
    assert run.equal
    tasks, labels = _of(run.published, "edge/cloud/up/label-task/line"), _of(run.published, LABEL)
    assert len(tasks) == len(labels) == SAMPLES
    assert {each["task"] for each in tasks} == {each["task"] for each in labels}
    status = _of(run.published, JOB)[-1]["status"]
    rounds = [each["models"]["line"] for each in status["rounds"]]
    assert [each["decision"] for each in rounds] == ["deployed", "refused", "rolled-back", "deployed"]
    assert "gain" in rounds[1]["reason"] and "did not stand its trial" in rounds[2]["reason"]
    assert [each["samples"] for each in status["rounds"]] == [
        ROUND_SAMPLES - each for each in _held_out(status["loop"]["shards"])
    ]
    assert (status["labelled"], status["waiting"]) == (SAMPLES, 0)
    first, refused, back, second = (each["digest"] for each in rounds)
    served = [task for each in _of(run.published, TASK) for task in each["tasks"]]
    assert _changes(task.get("model") for task in served) == [None, first, second, first]
    assert _changes(task["candidate"]["model"] for task in served if task.get("candidate")) == [back, second]
    assert refused not in str(served), "what the gate refuses is not even on trial"
    model = _of(run.published, MODEL)[-1]["status"]
    assert model["aliases"] == {"champion": 1}, "it was rolled back by hand"
    assert [each["version"] for each in model["versions"]] == [1, 2, 3]


def _held_out(shards: list[dict[str, Any]]) -> list[int]:
    return [each["samples"] for each in shards if each["heldOut"]]


def _changes(values: Any) -> list[Any]:
    found: list[Any] = []
    for each in values:
        if not found or found[-1] != each:
            found.append(each)
    return found


def _unknown_task(topic: str, number: int, data: Any) -> None:
    if (topic, number) == (LABEL, 3):
        data["task"] = "0" * 64


class _LabelledTwice:
    """The fourth label is one of the third's task."""

    def __call__(self, topic: str, number: int, data: Any) -> None:
        if (topic, number) == (LABEL, 3):
            self._task = data["task"]
        elif (topic, number) == (LABEL, 4):
            data["task"] = self._task


def _more_samples(topic: str, number: int, data: Any) -> None:
    if topic == JOB and data is not None:
        for shard in data["status"]["loop"]["shards"][:1]:
            shard["samples"] += 1


def _refused_serves(topic: str, number: int, data: Any) -> None:
    for task in data["tasks"] if topic == TASK else ():
        if task.get("candidate"):
            task["model"] = {**task["model"], "digest": "1" * 64}


def _refused_on_trial(topic: str, number: int, data: Any) -> None:
    for task in data["tasks"] if topic == TASK else ():
        if task.get("candidate"):
            task["candidate"]["model"]["digest"] = "2" * 64


def _never_judged(topic: str, number: int, data: Any) -> bool:
    return (topic, number) != ("edge/cloud/up/verdict/line", 1)


@pytest.mark.parametrize(
    ("change", "topic", "field", "words"),
    [
        (_unknown_task, LABEL, "task", "a task that event/label-task tells of"),
        (_LabelledTwice(), LABEL, "labeller", "a second one of anna"),
        (_more_samples, JOB, "status.loop.shards", f"at most {SAMPLES} samples"),
        (_refused_serves, TASK, "tasks[0].model", "a version that a gate has passed"),
        (_refused_on_trial, TASK, "tasks[0].candidate", "a version that a gate has passed"),
        (_never_judged, TASK, "tasks[0].model", "a version that a gate has passed"),
    ],
)  # fmt: skip
def test_what_breaks_the_loop_is_found(
    trace: Trace, edited: Edited, change: Any, topic: str, field: str, words: str
) -> None:
    """The rules find it in the trace alone; the replay finds that the coordinator would not have published it."""
    changed = edited(trace("learning.mcap"), change)
    found = broken_rules(LoadedTrace.read(changed.path))
    assert any((each.topic, each.field) == (topic, field) and words in str(each) for each in found), found
    run = changed.replay_sync("coordinator")
    assert not run.equal and set(map(str, found)) < set(map(str, run.differences))


def test_a_sample_that_is_in_two_shards_is_found(trace: Trace, edited: Edited, tmp_path: Path) -> None:
    contents = [dumps({"x": np.full(2, number, np.float32)}) for number in range(3)]
    samples = [LabelledSample(sha256(each).hexdigest(), TENSOR, each, 0) for each in contents]
    files = [write_shard(samples[:2], tmp_path), write_shard(samples[1:], tmp_path)]

    def edit(topic: str, number: int, data: Any) -> None:
        for shard in data["status"]["loop"]["shards"] if topic == JOB and data else ():
            if shard["number"] in (3, 5):
                shard["weights"]["digest"] = files[shard["number"] == 5].digest

    changed = edited(trace("learning.mcap"), edit, attach={each.digest: each.inline for each in files})
    found = broken_rules(LoadedTrace.read(changed.path))
    assert {(each.topic, each.field, each.got) for each in found} == {
        (JOB, "status.loop.shards", f"{samples[1].digest} in two")
    }
    assert broken_rules(LoadedTrace.read(changed.path), job="another") == []


def test_nothing_is_said_of_what_was_made_before_the_recording(trace: Trace, edited: Edited) -> None:
    """A recording that begins in the middle has labels whose tasks it has not."""

    def edit(topic: str, number: int, data: Any) -> bool:
        return topic not in ("request/labels/create", "edge/cloud/up/label-task/line")

    assert broken_rules(LoadedTrace.read(edited(trace("learning.mcap"), edit).path)) == []


def test_a_coordinator_that_counts_a_sample_twice_differs(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    from heliograph.coordinator.features.incremental.labelled_samples import LabelledSamples

    monkeypatch.setattr(LabelledSamples, "use", lambda self, job, ids: None)
    run = trace("learning.mcap").replay_sync("coordinator")
    assert any(each.topic == JOB for each in run.differences)


def test_a_label_under_another_lease_differs(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leases are those of the recording: under others the coordinator would refuse every label."""
    monkeypatch.setattr("heliograph.labelling.queue_verbs.lease_key", lambda *_: "leases.another")
    run = trace("learning.mcap").replay_sync("coordinator")
    assert _of(run.published, LABEL) == [] and not run.equal
