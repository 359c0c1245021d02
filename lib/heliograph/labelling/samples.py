"""Tasks of hard samples: the sample's bytes and digest, and what the models said of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from heliograph.bus.contract.payloads import DeepAnswer, HardSample
from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR, TEXT, Prediction, Result, SampleData
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.weights_header import check_inline
from heliograph.labelling.results import choice_of

DEEP = "deep"
"""Name of the deep model's prediction where its digest is unknown."""


@dataclass(frozen=True)
class Sample:
    """A sample's bytes, with the SHA-256 that is its task's id."""

    digest: str
    media_type: str
    content: bytes

    @property
    def data(self) -> SampleData:
        """The sample's place and size, without the sample."""
        return SampleData(media_type=self.media_type, size=len(self.content))


def columns_text(columns: object) -> str:
    """Return a row of named columns as the one text that its digest is of."""
    return json.dumps(columns, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sample_of(hard: HardSample) -> Sample | None:
    """Return the sample that a hard sample carries; None where it carries none. Raise Refused where it is damaged."""
    if hard.data is not None and hard.data.inline is not None:
        check_inline(hard.data)
        return Sample(hard.data.digest, TENSOR, hard.data.inline)
    if hard.tensor is not None:
        size = len(hard.tensor)
        check_inline(WeightsRef.model_construct(digest=hard.sample, size=size, inline=hard.tensor))
        return Sample(hard.sample, TENSOR, hard.tensor)
    if hard.text is not None:
        content, media_type = hard.text.encode(), TEXT
    elif hard.columns is not None:
        content, media_type = columns_text(hard.columns).encode(), COLUMNS
    else:
        return None
    return Sample(hashlib.sha256(content).hexdigest(), media_type, content)


def predictions_of(hard: HardSample, schema: LabelSchema) -> list[Prediction]:
    """Return what the edge's model and the deep one said, as far as it fits the schema; the deep one's is last."""
    found = []
    if (said := choice_of(hard.scores, schema)) is not None:
        found.append(Prediction(model=hard.model or "edge", score=said.score, result=said))
    if hard.answer is not None and (said := _answer(hard.answer, schema)) is not None:
        found.append(Prediction(model=hard.answer.model or DEEP, score=said.score, result=said))
    return found


def _answer(answer: DeepAnswer, schema: LabelSchema) -> Result | None:
    said = choice_of(answer.scores, schema)
    if said is not None or schema.type != "choice":
        return said
    value = answer.result if isinstance(answer.result, str) else None
    return Result(type="choice", value=value) if value in schema.classes else None
