"""LabelQueue: the hard samples of a job or service that wait for labels, and how labellers shall agree."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.base import Condition, Document, Resource, ShortText

ClassName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
MAX_CLASSES = 1000
LABELLERS_SHOWN = 100
"""Labellers that a status shows, those with the most labels."""


class LabelSchema(Document):
    """What a label looks like.

    Attributes:
        version: raise it with each change; labels carry the version that they were given under.
        type: ``choice``: one class; ``choices``: several; ``number``; ``text``; ``regions``: boxes, polygons or points,
            each with a class.
        classes: the classes of a choice, of choices and of regions, in the order of the model's scores.
        low, high: bounds of a number.
        tolerance: distance up to which two numbers count as the same.
        least_overlap: share of overlap (intersection over union) from which two regions count as the same.
        question: what labellers are asked.
    """

    version: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    type: Literal["choice", "choices", "number", "text", "regions"] = "choice"
    classes: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    low: float | None = None
    high: float | None = None
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    least_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    question: ShortText = ""

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        if self.type in ("choice", "choices", "regions") and not self.classes:
            raise ValueError(f"expected classes, which a {self.type} has")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("expected classes that differ")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("expected a low bound that is not above the high one")
        return self


class AgreementRule(Document):
    """When labels of one task settle it.

    Attributes:
        method: ``majority`` counts labels alike; ``dawid-skene`` weighs them by the labellers' estimated errors, for
            choices, once enough labels of several labellers are there.
        least: share of the labels, or probability, that has to be exceeded.
        extra: further labellers that are asked where the first ones do not agree; what they leave open is a conflict.
    """

    method: Literal["majority", "dawid-skene"] = "majority"
    least: Annotated[float, Field(ge=0, lt=1)] = 0.5
    extra: Annotated[int, Field(ge=0, le=16, strict=True)] = 1


class Proposals(Document):
    """Whether a big model's predictions become labels.

    A share of the tasks is held out: people label them, whatever the model says. The bar is the lowest confidence above
    which the model was right in held-out tasks at the wanted precision, with a margin for their number.

    Attributes:
        precision: share of accepted predictions that have to be right.
        confidence: with which the precision has to be exceeded (one-sided).
        held_out: share of the tasks that people label in any case, by the hash of the sample.
        least_labels: held-out labels before any prediction is accepted.
    """

    precision: Annotated[float, Field(gt=0, lt=1)] = 0.95
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    held_out: Annotated[float, Field(gt=0, le=1)] = 0.2
    least_labels: Annotated[int, Field(ge=10, le=100_000, strict=True)] = 50


class Batches(Document):
    """Tasks open in batches, at fixed times, rather than as they come.

    Attributes:
        every_seconds: between two batches, counted from 1970 in UTC: 86400 opens one each midnight.
        size: tasks of one batch, at most; further ones come with the next.
    """

    every_seconds: Annotated[float, Field(ge=1, le=31 * 86400)]
    size: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 100


class LabelQueueSpec(Document):
    """Which labels the hard samples of the job or service with the queue's name shall get.

    Attributes:
        overlap: labels of different labellers for each task.
        lease_seconds: time that a labeller has for a claimed task; ``renew`` gives as much again.
        location: ``cloud``: the coordinator hands tasks out; ``edge``: each edge's agent hands out its own on the node,
            with or without a link, and samples stay there.
        reviewers: labellers whose labels may be marked as ground truth; oracles always may.
        most_tasks: open tasks, at most; further samples are counted and left out.
        keep_days: days after which a settled task, its sample with it, is deleted.
    """

    label_schema: LabelSchema
    overlap: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    lease_seconds: Annotated[float, Field(ge=1, le=7 * 86400)] = 300.0
    location: Literal["cloud", "edge"] = "cloud"
    agreement: AgreementRule = Field(default_factory=AgreementRule)
    reviewers: Annotated[list[ShortText], Field(max_length=100)] = Field(default_factory=list)
    proposals: Proposals | None = None
    batches: Batches | None = None
    most_tasks: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 10_000
    keep_days: Annotated[float, Field(gt=0, le=3650)] = 90.0


class LabellerNumbers(Document):
    """Counts of one labeller.

    Attributes:
        agreement: share of equal labels among those that others gave to the same tasks; absent without any.
        accuracy: Dawid and Skene's estimate of the share that is right; absent where it is not estimated.
        lead_seconds: mean time for a label.
        one_class: the class that it always gives, where others give several to the same tasks.
    """

    source: str = "human"
    labels: int = 0
    skipped: int = 0
    agreement: float | None = None
    accuracy: float | None = None
    lead_seconds: float | None = None
    one_class: str | None = None


class LabelQueueStatus(Document):
    """Counts of a queue.

    Attributes:
        waiting: open tasks that nobody has claimed now; ``later`` of them open with a later batch.
        leased: open tasks that somebody has claimed.
        labelled: tasks whose labels agree.
        conflicts: tasks whose labels do not agree; all their labels are kept.
        labels: labels of all sources.
        repeated: samples that came more than once.
        left_out: samples that found the queue full, or had no data.
        alpha: Krippendorff's alpha of all labels; absent where no task has two.
        bar: confidence from which predictions become labels; absent while too few labels are known.
        labellers: those with the most labels.
    """

    waiting: int = 0
    later: int = 0
    leased: int = 0
    labelled: int = 0
    conflicts: int = 0
    labels: int = 0
    repeated: int = 0
    left_out: int = 0
    alpha: float | None = None
    bar: float | None = None
    labellers: dict[str, LabellerNumbers] = Field(default_factory=dict)
    conditions: list[Condition] = Field(default_factory=list)


class LabelQueue(Resource):
    """``kind: LabelQueue``. Its name is that of the job or service whose hard samples it takes."""

    plural: ClassVar[str] = "labels"

    kind: Literal["LabelQueue"] = "LabelQueue"
    spec: LabelQueueSpec
    status: LabelQueueStatus = Field(default_factory=LabelQueueStatus)
