"""The labelled sample of a settled task: what no model learns, or no shard can hold, is left out."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads import LabelTask, Result
from heliograph.bus.contract.payloads.labels import TENSOR, TEXT, SampleData
from heliograph.bus.contract.weights_file import dumps
from heliograph.incremental.labelled import labelled_sample
from heliograph.labelling.task_state import TaskState

ARRAY = dumps({"x": np.zeros(2, np.float32)})
CAT = Result(type="choice", value="cat")


def _settled(content: bytes, media_type: str, consensus: Result | None) -> TaskState:
    data = SampleData(media_type=media_type, size=len(content), edge="edge-1")
    task = LabelTask(job="q", queue_uid="u", task=sha256(content).hexdigest(), edge="edge-1", data=data)
    return TaskState(number=1, task=task, phase="labelled", consensus=consensus)


@pytest.mark.parametrize(
    ("content", "media_type", "consensus", "label"),
    [
        (ARRAY, TENSOR, CAT, 1),
        (b"miau", TEXT, CAT, 1),
        (b"miau", TEXT, Result(type="number", value=3), 3.0),
        (b"miau", TEXT, Result(type="choice", value="owl"), None),
        (b"miau", TEXT, None, None),
        (b"", TENSOR, CAT, None),
        (ARRAY[:20], TENSOR, CAT, None),
        (dumps({"y": np.zeros(2, np.float32)}), TENSOR, CAT, None),
        (b"a picture", "image/png", CAT, None),
    ],
)
def test_only_what_a_shard_can_hold_and_a_model_learns_is_a_labelled_sample(
    content: bytes, media_type: str, consensus: Any, label: float | None
) -> None:
    found = labelled_sample(_settled(content, media_type, consensus), content, {"dog": 0, "cat": 1})
    assert (found.label if found is not None else None) == label
