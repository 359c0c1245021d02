"""Send hard samples to the job and the label queue that a service names, as far as the node's disk keeps up."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import DeepAnswer, HardSample
from heliograph.bus.contract.resources.base import MAX_SAMPLE, WeightsRef
from heliograph.bus.contract.weights_file import INLINE, dumps
from heliograph.inference.answers import Answer
from heliograph.inference.inputs import as_input, pack, plain
from heliograph.inference.predictors.samples import columns_in, has_arrays, sample_array
from heliograph.labelling.samples import columns_text
from heliograph.workers.runtime import Runtime, log

MAX_SAMPLES_UNDER_WAY, MAX_BYTES_UNDER_WAY = 256, 32 << 20
"""Hard samples on their way to the node's disk, at most; further ones are left out."""
MAX_SCORES = 1024
"""Scores that a hard sample carries, at most."""


class HardSamples:
    """The hard samples of one worker.

    Args:
        job: returns the job that the service names now; None for none.
        model: returns the digest of the version that serves.
    """

    def __init__(self, runtime: Runtime, job: Callable[[], str | None], model: Callable[[], str]) -> None:
        self._runtime = runtime
        self._job = job
        self._model = model
        self._samples_under_way = 0
        self._bytes_under_way = 0
        """Of large samples."""
        self._overrun_logged = False

    async def send(self, x: Any, scores: Any, deep: Answer | None = None) -> None:
        """Send a hard sample with what the edge's model said and, where it was asked, the deep model."""
        job = self._job()
        if job is None or self._is_behind:
            if job is not None and not self._overrun_logged:
                self._overrun_logged = True
                log("hard samples come faster than the node's disk takes them: some are left out; raise the rule's bar")
            return
        sample = HardSample(
            job=job,
            edge=self._runtime.environment.edge,
            scores=_scores(scores),
            model=self._model(),
            answer=_deep_answer(deep),
            **_content(x),
        )
        size = len(sample.tensor or b"")
        self._samples_under_way += 1
        self._bytes_under_way += size
        try:
            await self._runtime.send(topics.HARD_SAMPLE, sample, job=job, edge=self._runtime.environment.edge)
        finally:
            self._samples_under_way -= 1
            self._bytes_under_way -= size

    @property
    def _is_behind(self) -> bool:
        """Whether so many hard samples wait for the node's disk that further ones are left out."""
        return (self._samples_under_way >= MAX_SAMPLES_UNDER_WAY
                or self._bytes_under_way >= MAX_BYTES_UNDER_WAY)  # fmt: skip


def _content(x: Any) -> dict[str, Any]:
    """Return a sample's SHA-256, and the sample itself where it is small enough to travel in an event."""
    value: Any
    if isinstance(x, str):
        data, key, value = x.encode(), "text", x
    elif (row := columns_in(x)) is not None and has_arrays(row):
        return {"sample": sha256(pack(as_input(x))).hexdigest()}  # an event has no room for several inputs
    elif row is not None:
        cells = {name: plain(value) if isinstance(value, np.generic) else value for name, value in row.items()}
        columns = {name: None if value != value else value for name, value in cells.items()}  # NaN: missing
        data, key, value = columns_text(columns).encode(), "columns", columns
    else:
        data, key = dumps({"x": sample_array(x)}), "data"
        value = None
    found: dict[str, Any] = {"sample": sha256(data).hexdigest()}
    if key == "data" and INLINE < len(data) <= MAX_SAMPLE:
        return found | {"tensor": data}
    if len(data) > INLINE:
        return found
    if key == "data":
        value = WeightsRef(digest=found["sample"], size=len(data), inline=data)
    return found | {key: value}


def _scores(scores: Any) -> list[float]:
    return [float(score) for score in np.ravel(np.asarray(scores))[:MAX_SCORES]]


def _deep_answer(deep: Answer | None) -> DeepAnswer | None:
    """Return the deep model's answer, as far as a label may follow from it."""
    if deep is None:
        return None
    scores = np.asarray(deep.scores if deep.scores is not None else [])
    result = deep.result if isinstance(deep.result, (str, bool, int, float)) else None
    return DeepAnswer(
        result=result[:4096] if isinstance(result, str) else result,
        scores=_scores(scores) if scores.dtype.kind in "fiub" and np.isfinite(scores).all() else [],
    )
