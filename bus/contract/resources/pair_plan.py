"""What the training of a pair of models is made of: selection, objectives, distillation, evaluation, tuning; and what
it has measured.

They lie apart from the job: a worker reads them without the kinds that a job is made of, and a script that runs outside
a job gives the same fields.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import Document, Parameter, Scalar, ShortText
from heliograph.bus.contract.resources.label_queue import MAX_CLASSES, ClassName

Side = Literal["edge", "cloud"]
SIDES: tuple[Side, ...] = ("cloud", "edge")
"""The models of a pair, in the order in which they are trained: the shallow one learns from the deep one."""
PairStep = Literal["selecting", "training-cloud", "training-edge", "measuring"]
Share = Annotated[float, Field(ge=0, le=1)]
UNTUNED = ("always", "never", "random")
"""Rules without a parameter that tuning finds."""


class SelectionRule(Document):
    """Which samples of the public data set are added to the developer's own.

    Attributes:
        count: number of samples to select, at most.
        metric: distance of two embeddings.
        most_distance: a public sample that lies farther from each own one is never selected.
        labels: the class of a selected sample: ``nearest``, that of the own sample that it lies nearest to; ``public``,
            its own in the public data set.
    """

    count: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 1000
    metric: Literal["euclidean", "cosine"] = "euclidean"
    most_distance: Annotated[float, Field(gt=0)] | None = None
    labels: Literal["nearest", "public"] = "nearest"


class Objective(Document):
    """What a model is trained for. ``heliograph.inference.pairs.objectives`` makes class weights of it.

    Attributes:
        objective: ``recall``: a rare class weighs more, since misses cost; ``precision``: it weighs less.
        strength: 0 gives all samples the same weight.
        least: the mean of that recall or precision over the classes that the model has to reach; below it nothing is
            registered.
    """

    objective: Literal["recall", "precision"]
    strength: Share = 0.5
    least: Share = 0.0


class Distillation(Document):
    """How the shallow model learns from the deep one's scores.

    Attributes:
        temperature: of the softened scores.
        share: weight of the softened scores in the loss; the labels have the rest. 0 trains on the labels alone.
    """

    temperature: Annotated[float, Field(gt=0, le=1000)] = 4.0
    share: Share = 0.9


class PairEvaluation(Document):
    """What the pair is measured on: samples that no training sees. A half of them, by hash, tunes; the other measures.

    Attributes:
        held_out: per cent of the developer's samples that are held out, by the hash of each. Where the job names a data
            set for the evaluation, all samples of that one are used, and none is held out.
        salt: name of the division.
        least_accuracy: of the pair together; below it nothing is registered.
    """

    held_out: Annotated[int, Field(ge=1, le=90, strict=True)] = 20
    salt: Annotated[str, Field(max_length=64)] = ""
    least_accuracy: Share = 0.0


class Tuning(Document):
    """The hard-sample rule of the pair, and what its tuned parameter has to reach: one of ``accuracy`` and ``offload``.

    Attributes:
        rule: name of the rule. Some agent's workers must offer it.
        parameters: of the rule; the tuned one is found.
        accuracy: of the pair, with the least offload. Without either the pair shall be as accurate as the deep model.
        offload: largest share of samples that may go to the cloud, for the best accuracy.
    """

    rule: ShortText = "threshold"
    parameters: list[Parameter] = Field(default_factory=list, max_length=64)
    accuracy: Share | None = None
    offload: Share | None = None

    @model_validator(mode="after")
    def _can_be_tuned(self) -> Self:
        if self.rule in UNTUNED:
            raise ValueError(f"the rule {self.rule} has no parameter to tune")
        if self.accuracy is not None and self.offload is not None:
            raise ValueError("expected either accuracy or offload")
        return self

    @property
    def given(self) -> dict[str, Scalar]:
        """The parameters with a value, by name."""
        return {each.key: each.value for each in self.parameters if each.value is not None}


class PairPlan(Document):
    """How a pair of models is trained, tuned and measured.

    Attributes:
        classes: the classes' names by their index; without them a label is its index.
    """

    classes: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    selection: SelectionRule = Field(default_factory=SelectionRule)
    edge: Objective = Field(default_factory=lambda: Objective(objective="recall"))
    cloud: Objective = Field(default_factory=lambda: Objective(objective="precision"))
    distillation: Distillation = Field(default_factory=Distillation)
    evaluation: PairEvaluation = Field(default_factory=PairEvaluation)
    tuning: Tuning = Field(default_factory=Tuning)

    @model_validator(mode="after")
    def _each_class_once(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class comes twice")
        return self


class SelectionFigures(Document):
    """What was selected from the public data set.

    Attributes:
        public: its samples.
        selected: the samples that are added to the training.
        left_out: samples that were near enough, and are in the evaluation too: nobody trains on these.
        nearest, farthest: distances of the selected samples from the nearest of the developer's.
    """

    public: int = 0
    selected: int = 0
    left_out: int = 0
    nearest: float = 0.0
    farthest: float = 0.0


class JointFigures(Document):
    """What edge and cloud do together, on the samples that measure.

    Attributes:
        accuracy: share that they answer correctly.
        offload: share that goes to the cloud.
        calibration_error: expected distance between the edge's confidence and its accuracy.
    """

    accuracy: float = 0.0
    offload: float = 0.0
    calibration_error: float = 0.0


class ClassFigures(Document):
    """One class on the samples that measure. What is divided by no sample is absent."""

    support: int
    edge_recall: float | None = None
    cloud_precision: float | None = None


class PairFigures(Document):
    """What was measured of a pair.

    Attributes:
        evaluation: version of the evaluation set: SHA-256 of its rule and of its members' ids.
        tuned_on, measured_on: its samples in each half.
        edge_accuracy, cloud_accuracy: of each model alone.
        edge_objective, cloud_objective: mean of the recall or precision that each was trained for, over the classes.
        before, after: the pair with the rule's own parameters, and with the calibrated scores and tuned parameters.
        temperature: that calibrates the edge's scores.
        parameters: of the rule, the tuned one among them.
        reached: whether the tuning has reached what it wanted, on the samples that it tuned with.
        classes: recall and precision by class.
        unmeasured: the classes without a sample in the half that measures.
        metrics: what the script's own measure says.
        against: why the pair must not serve, a sentence each: a metric that is no number.
    """

    evaluation: ShortText = ""
    tuned_on: int = 0
    measured_on: int = 0
    edge_accuracy: float = 0.0
    cloud_accuracy: float = 0.0
    edge_objective: float = 0.0
    cloud_objective: float = 0.0
    before: JointFigures = Field(default_factory=JointFigures)
    after: JointFigures = Field(default_factory=JointFigures)
    temperature: float = 1.0
    rule: ShortText = "threshold"
    parameters: list[Parameter] = Field(default_factory=list, max_length=64)
    reached: bool = True
    classes: Annotated[dict[ClassName, ClassFigures], Field(max_length=MAX_CLASSES)] = Field(default_factory=dict)
    unmeasured: Annotated[list[ClassName], Field(max_length=MAX_CLASSES)] = Field(default_factory=list)
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    against: list[ShortText] = Field(default_factory=list, max_length=64)
