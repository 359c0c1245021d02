"""Payloads of joint inference: requests, answers, counts and hard samples."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from heliograph.bus.contract.payloads.base import Bucket, Count, EdgeName, Payload, Text
from heliograph.bus.contract.resources.base import SampleBytes, WeightsRef
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label


class TypedInput(Payload):
    """An array by its type, shape and bytes.

    Attributes:
        dtype: NumPy's name of the type, such as ``float32`` or ``uint8``.
        shape: sizes of the axes, without a batch axis.
        data: the elements, little-endian, the last axis first; base64 in JSON.
    """

    dtype: str
    shape: list[int]
    data: bytes


class ImageInput(Payload):
    """An encoded image, such as a JPEG; base64 in JSON. The worker needs Pillow."""

    image: bytes


class TextInput(Payload):
    """A text, for a model that takes texts."""

    text: str


class ColumnsInput(Payload):
    """A row of named columns, for an estimator that was fitted on a table. null is a missing value."""

    columns: dict[str, float | str | bool | None]


class NamedInputs(Payload):
    """The inputs of a model that has several, by their names: each a number, a list of numbers, or a mapping of one of
    the other forms but columns."""

    inputs: dict[str, Any]


class InferenceRequest(Payload):
    """One sample for a service's model.

    Attributes:
        input: the sample, without a batch axis: a number, a list of numbers, or nested lists of them; or a mapping.
        deadline: seconds that an answer may take, above 0; without it the service's own.
        reply_to: topic of the answer, below ``reply/``, for a client that has no response topic.
    """

    input: float | list[Any] | TypedInput | ImageInput | TextInput | ColumnsInput | NamedInputs
    deadline: float | None = None
    reply_to: str | None = None


class InferenceAnswer(Payload):
    """The answer to one sample, from the edge's model or the deep one; or ``error`` alone.

    Attributes:
        result: the label or the value; what the service's script makes of the scores, where it does.
        scores: one number for each class; null for a model that gives labels or values.
        by: ``edge`` or ``cloud``; the deep model's own answers do not say it.
        degraded: true where the sample was hard and the edge answered it all the same.
        seconds: time from the request to the answer.
        model: digest of the version of the edge's model that has seen the request; empty while it has the script's own
            weights.
        error: code, topic, field, expected, got, hint and message of a refusal.
    """

    result: Any = None
    scores: Any = None
    by: str | None = None
    degraded: bool | None = None
    seconds: float | None = None
    model: Text = added("0.2", "")
    error: dict[str, Any] | None = None


class VersionStats(Payload):
    """Counts of the requests that one version of the edge's model has answered, since the worker's start.

    Attributes:
        requests: answers, and errors of the model.
        latencies: as in ``InferenceStats``.
        compared: requests that the deployed version has answered too, without sending it; ``agreed``: alike.
        rejected: trials of the version, in a process of its own, that it did not stand; it answers nobody there.
    """

    requests: Count = 0
    errors: Count = 0
    compared: Count = 0
    agreed: Count = 0
    rejected: Count = 0
    latencies: dict[Bucket, Count] = Field(default_factory=dict, max_length=128)


class InferenceStats(Payload):
    """Counts of one inference worker since its start; each message replaces the previous one.

    Attributes:
        incarnation: start of the worker that counts; a restarted worker counts from zero.
        by_edge: requests with the edge model's answer.
        by_cloud: requests with the deep model's answer.
        hard: requests that the rule found hard. ``by_edge + by_cloud + errors`` is the number of all answers.
        degraded: hard requests that the edge answered all the same.
        errors: requests answered by an error.
        compared: requests that both models answered.
        agreed: compared requests with the same answer of both models.
        bytes_offloaded: bytes of the requests sent to the cloud.
        latencies: number of answers that took up to 2^(n/4) × 100 µs, by n; empty buckets are left out.
        model: digest of the model that answers.
        trouble: what keeps the worker from answering as it should, for people; empty if nothing does.
        ready: whether the worker answers: its model is loaded, and has passed its check or answered a request.
        versions: counts by the digest of the edge's model, of the last few.
        drift: ``scores/psi`` and the like to the time, in seconds since 1970, at which that detector last saw a drift.
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
    ready: bool = added("0.2", False)
    versions: dict[Digest, VersionStats] = added("0.2", {})
    drift: Annotated[dict[Text, float], Field(max_length=32)] = added("0.2", {})


class DeepAnswer(Payload):
    """The deep model's answer to a hard sample: its result, where that is a class, and the score of each class."""

    result: Text | float | bool | None = None
    scores: Annotated[list[float], Field(max_length=1024)] = Field(default_factory=list)
    model: Text = ""


class HardSample(Payload):
    """A sample that the hard-sample rule found hard, with the scores of the edge's model.

    Attributes:
        sample: SHA-256 of the sample, which is also its task's id where people label it; workers before 0.2 send
            another id.
        scores: the edge model's score of each class.
        data: safetensors file with the sample as array ``x``; absent for a text, named columns or several inputs, and
            if it is larger than 256 kB.
        tensor: the same file where it is larger; absent beyond 6 MiB, and nobody can label the sample then.
        text: the sample, where it is a text.
        columns: the sample, where it is a row of named columns.
        model: digest of the edge's model.
        answer: what the deep model said, where it was asked and answered in time.
    """

    job: Label
    edge: EdgeName
    sample: Text
    scores: list[float] = Field(default_factory=list)
    data: WeightsRef | None = None
    tensor: SampleBytes | None = added("0.2")
    text: Annotated[str, StringConstraints(max_length=256 * 1024)] | None = added("0.2")
    columns: Annotated[dict[str, float | str | bool | None], Field(max_length=4096)] | None = added("0.2")
    model: Text = added("0.2", "")
    answer: DeepAnswer | None = added("0.2")
