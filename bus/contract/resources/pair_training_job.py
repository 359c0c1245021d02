"""PairTrainingJob: a shallow and a deep model are trained from the developer's samples and similar public ones, and
registered as a pair."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliograph.bus.contract.resources.base import (
    Condition,
    Document,
    Reference,
    Resource,
    RunsCode,
    ShortText,
    WeightsRef,
)
from heliograph.bus.contract.resources.dataset_use import DatasetUse
from heliograph.bus.contract.resources.joint_inference_service import HardSampleRule, JointInferenceServiceSpec
from heliograph.bus.contract.resources.node_resources import Priority
from heliograph.bus.contract.resources.pair_plan import (
    Objective,
    PairFigures,
    PairPlan,
    PairStep,
    SelectionFigures,
    Side,
)
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.core.names import CLOUD, Digest, Label

PairPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Stopped"]
PAIR_ENDED: tuple[PairPhase, ...] = ("Succeeded", "Failed", "Stopped")
JobStep = Literal["waiting", PairStep, "registering", "serving", "done"]
"""``waiting`` for what the job needs; the four steps of the worker; ``registering``: the two models become versions;
``serving``: the job creates the service; ``done``."""
SERVED_SIDES: tuple[tuple[Side, str, str], ...] = (
    ("edge", "edgeWorker", "edge_worker"), ("cloud", "cloudWorker", "cloud_worker"),
)  # fmt: skip
"""Each model's place in a service: as a document has it, and as Python does."""


class PairModel(Objective):
    """One model of the pair: what it becomes a version of, and what it is trained for."""

    model: Reference


class EdgeModel(PairModel):
    """The shallow model, by default trained for recall: what it misses is lost."""

    objective: Literal["recall", "precision"] = "recall"


class CloudModel(PairModel):
    """The deep model, by default trained for precision: it answers what the shallow one was not sure of."""

    objective: Literal["recall", "precision"] = "precision"


class PairService(JointInferenceServiceSpec):
    """The service that the job creates of its models: as a JointInferenceService's spec, without what the job knows.

    The workers' ``model`` may be left out, and ``hardSampleRule`` is what tuning finds.

    Attributes:
        name: of the service; by default the job's.
    """

    name: Label | None = None


class PairTrainingJobSpec(PairPlan):
    """The data, the script, and the two models.

    Attributes:
        samples: the data set of the developer's labelled samples: on the node, or uploaded by
            ``heliograph datasets push``.
        public: the data set that similar samples are selected from; without it the pair learns from ``samples`` alone.
        held_out_samples: the data set that the pair is measured on; without it a part of ``samples`` is held out.
        node_name: node that selects, trains and measures.
        worker_spec: script, parameters and resources of the worker. It names no data set.
        edge, cloud: the shallow and the deep model.
        deploy: whether the versions answer all requests at once where the models had versions before. A job with a
            ``service`` deploys both, since they belong together.
        service: the service to create of them.
        attempts: times that a step is begun before the job fails.
        step_deadline_seconds: seconds after which a step that has not ended counts as hanging.
    """

    samples: Reference
    public: Reference | None = None
    held_out_samples: Reference | None = None
    node_name: Label = CLOUD
    worker_spec: WorkerSpec
    edge: EdgeModel
    cloud: CloudModel
    deploy: bool = False
    service: PairService | None = None
    attempts: Annotated[int, Field(ge=1, le=100, strict=True)] = 3
    step_deadline_seconds: Annotated[float, Field(gt=0, le=31 * 86400)] = 3600.0
    priority: Priority = 0

    @model_validator(mode="before")
    @classmethod
    def _service_runs_the_models(cls, given: Any) -> Any:
        """Name the models of the service's workers where they are left out."""
        service = given.get("service") if isinstance(given, Mapping) else None
        if not isinstance(service, Mapping):
            return given
        filled = dict(service)
        for side, *places in SERVED_SIDES:
            model = given.get(side)
            for place in places:
                worker = filled.get(place)
                if isinstance(worker, Mapping) and "model" not in worker and isinstance(model, Mapping):
                    filled[place] = {**worker, "model": model.get("model")}
        return {**given, "service": filled}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        worker = self.worker_spec
        if not worker.names_code:
            raise ValueError("workerSpec names no trainScriptBootFile, no algorithm and no script in an image")
        if worker.dataset is not None:
            raise ValueError("workerSpec names a data set; name it as samples, public or heldOutSamples")
        if self.edge.model == self.cloud.model:
            raise ValueError("edge and cloud name the same model")
        if (service := self.service) is not None:
            if service.cloud_worker is None:
                raise ValueError("service has no cloudWorker, which serves the deep model")
            if (service.edge_worker.model, service.cloud_worker.model) != (self.edge.model, self.cloud.model):
                raise ValueError("service runs other models than those that the job trains; leave out model there")
            if service.hard_sample_rule != HardSampleRule():
                raise ValueError("service has a hardSampleRule, which tuning finds; name the rule as tuning.rule")
        return self

    @property
    def plan(self) -> PairPlan:
        """What the worker needs of it."""
        fields = {name: getattr(self, name) for name in PairPlan.model_fields}
        return PairPlan(**{**fields, "edge": _rule_of(self.edge), "cloud": _rule_of(self.cloud)})

    @property
    def datasets(self) -> dict[str, str]:
        """The data sets by what they are for."""
        named = {"samples": self.samples, "public": self.public, "evaluation": self.held_out_samples}
        return {role: each.name for role, each in named.items() if each is not None}


def _rule_of(model: PairModel) -> Objective:
    return Objective(objective=model.objective, strength=model.strength, least=model.least)


class TrainedModel(Document):
    """A model that the job has trained.

    Attributes:
        samples: that it was trained on.
        seconds: that the training took.
        version: number of the registered version; absent before.
    """

    weights: WeightsRef
    samples: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = Field(default_factory=dict, max_length=64)
    version: int | None = None


class PairTrainingJobStatus(Document):
    """The progress of a job: all that a successor needs to go on.

    Attributes:
        step_since: time at which the step began.
        turn: counts what the worker was asked; an answer names the turn that it answers.
        attempt: counts the starts of the present step.
        restarts: counts the workers that were given up: the next one has another name.
        run: counts the trainings from the beginning: another version of a data set, or another spec, begins anew.
        datasets: the versions that the present run uses, by what they are for.
        selection: the file that says which public samples were selected; ``selected`` are its figures.
        bases: the versions that the trainings of this run start from; a model without one starts from its own weights.
        models: what has been trained.
        classes: the classes by their index, as the script named them.
        figures: what was measured.
        service: name of the service that the job has created.
        results_from: sequence in the stream of results at which the present run starts.
        reason: why the job failed.
    """

    phase: PairPhase = "Pending"
    step: JobStep = "waiting"
    step_since: str = ""
    turn: int = 0
    attempt: int = 1
    restarts: int = 0
    run: int = 0
    datasets: Annotated[dict[ShortText, DatasetUse], Field(max_length=3)] = Field(default_factory=dict)
    selection: WeightsRef | None = None
    selected: SelectionFigures | None = None
    bases: Annotated[dict[Side, WeightsRef], Field(max_length=2)] = Field(default_factory=dict)
    models: Annotated[dict[Side, TrainedModel], Field(max_length=2)] = Field(default_factory=dict)
    classes: list[str] = Field(default_factory=list)
    figures: PairFigures | None = None
    service: str = ""
    code: Annotated[dict[Digest, int], Field(max_length=8)] = Field(default_factory=dict)
    results_from: int = 1
    reason: ShortText = ""
    conditions: list[Condition] = Field(default_factory=list)
    start_time: str = ""
    completion_time: str = ""


class PairTrainingJob(Resource):
    """``kind: PairTrainingJob``."""

    plural: ClassVar[str] = "pair-jobs"

    kind: Literal["PairTrainingJob"] = "PairTrainingJob"
    spec: PairTrainingJobSpec
    status: PairTrainingJobStatus = Field(default_factory=PairTrainingJobStatus)

    @property
    def listed_workers(self) -> int:
        return 0 if self.status.phase in PAIR_ENDED else 1

    @property
    def code_workers(self) -> Mapping[str, RunsCode]:
        return {"spec.workerSpec": self.spec.worker_spec} if self.status.phase not in PAIR_ENDED else {}
