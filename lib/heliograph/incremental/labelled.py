"""The labelled sample of a settled label task, as a model learns it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.incremental.shards import LabelledSample, can_be_held
from heliograph.labelling.task_state import TaskState


def labelled_sample(state: TaskState, content: bytes, classes: Mapping[str, int]) -> LabelledSample | None:
    """Return a task's sample with its label; None for a label that no model learns (several classes, regions, a text),
    and for a sample that no shard can hold: it would keep all others from being learned.

    Args:
        classes: class to its index.
    """
    consensus = state.consensus
    value = consensus.value if consensus is not None else None
    label: int | float
    if consensus is None:
        return None
    if consensus.type == "choice" and isinstance(value, str) and value in classes:
        label = classes[value]
    elif consensus.type == "number" and isinstance(value, (int, float)) and not isinstance(value, bool):
        label = float(value)
    else:
        return None
    sample = LabelledSample(state.task.task, state.task.data.media_type, content, label)
    return sample if can_be_held(sample) else None
