"""Payloads of labelling: tasks, results and labels."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.bus.contract.resources.base import Binary, Scalar, ShortText, WeightsRef
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.core.names import Digest, Label

Source = Literal["human", "model", "oracle"]
TaskPhase = Literal["open", "labelled", "conflict"]
ResultType = Literal["choice", "choices", "number", "text", "regions"]
Unit = Annotated[float, Field(ge=0, le=1)]
Labeller = Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
TENSOR = "application/vnd.safetensors"
"""Media type of a sample that is an array: a safetensors file with the array ``x``."""
COLUMNS = "application/json"
"""Media type of a row of named columns: a JSON mapping."""
TEXT = "text/plain"
MAX_REGIONS, MAX_POINTS = 1000, 2000
MAX_PREDICTIONS = 8


class Region(Payload):
    """A part of an image with a class.

    Attributes:
        shape: ``box`` has the points x, y, width, height; ``polygon`` and ``point`` have x, y, x, y, and so on.
        points: shares of the image's width and height, 0 to 1, from its upper left corner.
    """

    shape: Literal["box", "polygon", "point"]
    value: ShortText
    points: Annotated[list[Unit], Field(min_length=2, max_length=MAX_POINTS)]
    score: Unit | None = None

    @model_validator(mode="after")
    def _has_the_points_of_its_shape(self) -> Self:
        count = len(self.points)
        fits = {"box": count == 4, "point": count == 2, "polygon": count >= 6 and count % 2 == 0}
        if not fits[self.shape]:
            raise ValueError(f"expected the points of a {self.shape}: 4 numbers of a box, 2 of a point, 6 or more, in "
                             "pairs, of a polygon")  # fmt: skip
        if self.shape == "box" and (self.points[0] + self.points[2] > 1 + 1e-6
                                    or self.points[1] + self.points[3] > 1 + 1e-6):  # fmt: skip
            raise ValueError("expected a box within the image")
        return self


class Result(Payload):
    """What a labeller, or a model, says of a sample.

    Attributes:
        type: the type of the queue's schema.
        value: the class of a ``choice``, a list of classes of ``choices``, a number, or a text; absent for ``regions``.
        score: confidence of a model, 0 to 1.
    """

    type: ResultType
    value: Scalar | list[ShortText] = None
    score: Unit | None = None
    regions: Annotated[list[Region], Field(max_length=MAX_REGIONS)] = Field(default_factory=list)


class Prediction(Payload):
    """A model's result for a task.

    Attributes:
        model: digest of the model, or a name by which people know it.
        score: its confidence, 0 to 1.
    """

    model: Text
    score: Unit | None = None
    result: Result


class SampleData(Payload):
    """Where a task's sample is. Exactly one of ``inline``, ``blob`` and ``edge`` says it.

    Attributes:
        media_type: such as ``application/vnd.safetensors``, ``text/plain``, ``application/json`` or ``image/png``.
        size: bytes of the sample.
        inline: the sample itself; base64 in JSON.
        blob: its blob in the cloud's object store.
        edge: the edge whose node alone has it.
    """

    media_type: Annotated[str, StringConstraints(max_length=128)]
    size: Count
    inline: Binary | None = None
    blob: WeightsRef | None = None
    edge: Label | None = None


class EdgeQueue(Payload):
    """A label queue whose tasks an edge's agent hands out on its node. ``uid`` is that of the resource."""

    uid: Text
    spec: LabelQueueSpec


class LabelTask(Payload):
    """A sample that waits for labels.

    Attributes:
        job: the queue, which has the name of the job or service whose hard samples it takes.
        queue_uid: uid of the queue.
        task: SHA-256 of the sample: the same sample is one task, however often it comes.
        edge: where the sample was taken first.
        schema_version: version of the queue's label schema when the task was made.
        overlap: labels of different labellers that it needs.
        predictions: what models said, newest last; a labeller may see them.
        opens: time from which it is given to labellers; empty from the beginning.
        created: time when it was made.
    """

    job: Label
    queue_uid: Text
    task: Digest
    edge: Label
    data: SampleData
    schema_version: Count = 1
    overlap: Annotated[int, Field(ge=1, le=16)] = 1
    predictions: Annotated[list[Prediction], Field(max_length=MAX_PREDICTIONS)] = Field(default_factory=list)
    opens: Text = ""
    created: Text = ""


class Annotation(Payload):
    """One label of one labeller for a task, or that the labeller skipped it.

    Attributes:
        task: the labelled task: SHA-256 of the sample.
        annotation: id of this label; the same one each time that it is published.
        labeller: whoever gave it.
        result: the label; absent where it was skipped.
        ground_truth: whether it is known to be right: of a reviewer, or of an oracle.
        lead_time: seconds that the labeller took.
        parent_prediction: the model whose prediction it accepted or changed.
        supersedes: id of the labeller's own earlier label that it replaces.
        origin: id of the label in another program, such as ``label-studio/1/42``.
        reason: why it was skipped, in the labeller's words.
        phase: of the task after this label.
        consensus: what the labellers agree on, once they do.
    """

    job: Label
    queue_uid: Text
    task: Digest
    annotation: Label
    labeller: Labeller
    source: Source
    result: Result | None = None
    skipped: bool = False
    ground_truth: bool = False
    lead_time: Annotated[float, Field(ge=0, le=1e9)] | None = None
    parent_prediction: Text = ""
    supersedes: Text = ""
    origin: Text = ""
    reason: Text = ""
    schema_version: Count = 1
    time: Text = ""
    phase: TaskPhase = "open"
    consensus: Result | None = None
