"""A learn worker in a test: it hands out steps, and keeps what the script sends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.payloads.labels import TENSOR
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.incremental.shards import LabelledSample, write_shard
from heliograph.session import LearnWork

Array = np.ndarray[Any, Any]


@dataclass
class Sent:
    """A candidate, or answers."""

    arrays: dict[str, Array] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    memory: dict[str, Array] = field(default_factory=dict)
    num_samples: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    champion_metrics: dict[str, float] = field(default_factory=dict)
    answers: tuple[list[str], list[str], list[str], list[str] | None] = ([], [], [], None)


class FakeLearnSession:
    """See ``heliograph.session.LearnSession``."""

    def __init__(self, *works: LearnWork) -> None:
        self.edge, self.job = "edge-1", "digits"
        self.dataset: Path | None = Path("seed.npz")
        self.dataset_samples = 0
        self.parameters: dict[str, Any] = {"rate": 0.1}
        self.works = list(works)
        self.sent: list[Sent] = []

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        self.loop = rounds

    def next_learning(self) -> LearnWork | None:
        return self.works.pop(0) if self.works else None

    def send_candidate(
        self, arrays: Mapping[str, Array], classes: Sequence[str], memory: Mapping[str, Array] | None,
        num_samples: int, metrics: dict[str, float], seconds: float,
    ) -> None:  # fmt: skip
        assert memory is not None and seconds >= 0
        self.sent.append(Sent(dict(arrays), list(classes), dict(memory), num_samples, metrics))

    def send_answers(
        self, ids: Sequence[str], labels: Sequence[str], candidate: Sequence[str], champion: Sequence[str] | None,
        metrics: dict[str, float], champion_metrics: dict[str, float],
    ) -> None:  # fmt: skip
        answers = list(ids), list(labels), list(candidate), None if champion is None else list(champion)
        self.sent.append(Sent(metrics=metrics, champion_metrics=champion_metrics, answers=answers))


def shard(x: Array, y: Array, directory: Path) -> TensorFile:
    """Return a shard as label queues fill it."""
    contents = [dumps({"x": each}) for each in x]
    samples = [LabelledSample(hashlib.sha256(content).hexdigest(), TENSOR, content, int(label))
               for content, label in zip(contents, y, strict=True)]  # fmt: skip
    ref = write_shard(samples, directory)
    return TensorFile(ref.inline) if ref.inline is not None else TensorFile(directory / ref.digest)


def file_of(arrays: Mapping[str, Array]) -> TensorFile:
    return TensorFile(dumps(arrays))
