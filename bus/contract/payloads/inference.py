"""What joint inference counts and collects."""

from __future__ import annotations

from pydantic import Field

from heliograph.bus.contract.payloads.base import Bucket, Count, EdgeName, Payload, Text
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.core.names import Label


class InferenceStats(Payload):
    """What one inference worker answered since it was started; each message replaces the one before.

    Attributes:
        worker, incarnation: who counted; a restarted worker counts from zero again.
        hard: requests that the rule found hard, each once. ``by_edge + by_cloud + errors`` is all that was answered.
        compared, agreed: answers that both models gave, and those of them that were the same.
        latencies: how many answers took up to 2^(n/4) × 100 µs, by n; empty buckets are left out.
    """

    service: Label
    service_uid: Text
    edge: EdgeName
    worker: Label
    incarnation: Text
    by_edge: Count = 0
    by_cloud: Count = 0
    hard: Count = 0
    degraded: Count = 0
    errors: Count = 0
    compared: Count = 0
    agreed: Count = 0
    bytes_offloaded: Count = 0
    latencies: dict[Bucket, Count] = Field(default_factory=dict, max_length=128)
    model: Text = ""
    trouble: Text = ""


class HardSample(Payload):
    """A sample that the edge's model was not sure of, with its scores. ``data`` is a safetensors file of one array,
    ``x``, where the sample is of at most 256 kB."""

    job: Label
    edge: EdgeName
    sample: Text
    scores: list[float] = Field(default_factory=list)
    data: WeightsRef | None = None


class SampleLabel(Payload):
    """A label for a sample."""

    job: Label
    sample: Text
    label: Scalar
