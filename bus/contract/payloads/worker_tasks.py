"""The tasks of workers: one class for each role, with the fields that the role needs.

A role's class attributes say how an agent runs its workers; no other code compares the names of roles. On the wire a
task is a mapping with ``role``. A service's generation is ``round`` there, the name that agents of 0.1 read.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field

from heliograph.bus.contract.payloads.base import Count, Payload, Text
from heliograph.bus.contract.payloads.rounds import RoundState
from heliograph.bus.contract.payloads.task_parts import (
    CandidateModel,
    InferenceSpec,
    PackageSpec,
    PodSpec,
    RoundSpec,
    ScriptSpec,
    ServedModel,
    WorkerAsk,
)
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.resources.label_queue import ClassName
from heliograph.bus.contract.resources.learning_tasks import GateRule, ShardRef
from heliograph.bus.contract.resources.pair_plan import PairPlan, PairStep
from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label
from heliograph.core.signing import Envelope


class WorkerTaskBase(Payload):
    """One worker of an edge, and its current task.

    Attributes:
        worker: name of the worker, unique on its edge.
        job: the job or service that the worker belongs to.
        job_uid: uid of that job or service.
        model: the model that the worker starts from.
        asks: what the worker asks of its node; absent for one that asks for nothing, which starts at any time.
    """

    starts_idle: ClassVar[bool] = False
    """True: launch the worker when it first has something to do, not when its task first appears in the document."""
    has_new_samples: ClassVar[bool] = False
    """True: start a worker that has failed for good once more in the next round, which has other samples."""
    serves: ClassVar[bool] = False
    """True: let the old worker answer until its successor can begin."""
    reads_model_file: ClassVar[bool] = False
    """True: fetch the task's weights to the node's disk unless they travel inside the task."""

    worker: Label
    role: str
    job: Label
    job_uid: Text
    model: WeightsRef | None = None
    asks: WorkerAsk | None = added("0.2")

    @property
    @abstractmethod
    def revision(self) -> int:
        """Return the worker's round, or the generation of its service."""

    @property
    def is_due(self) -> bool:
        """Return whether there is something to do now."""
        return True

    @property
    def loaded(self) -> WeightsRef | None:
        """The model that the worker loads."""
        return self.model

    @property
    def files(self) -> tuple[WeightsRef, ...]:
        """The weights that must be on the node's disk before the worker can run its task."""
        if not self.reads_model_file or not self.is_due:
            return ()
        return tuple(ref for ref in (self.loaded, *self.besides) if ref is not None and ref.inline is None)

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        """The weights that the worker reads beside the model."""
        return ()


    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that must be on the node before the worker can run."""
        return ()

    @property
    def has_script_in_image(self) -> bool:
        """Whether the script that the worker runs lies in its pod's image, and not on the node."""
        return False


class ScriptTask(WorkerTaskBase):
    """A worker that runs the user's script. The agent refuses the task if it names none.

    Attributes:
        script: a script on the node.
        package: the package to run in place of a script on the node; an agent of 0.1 finds neither.
        pod: the pod that the worker runs in; without one it is a process of its agent.
    """

    script: ScriptSpec | None = None
    package: PackageSpec | None = added("0.2")
    pod: PodSpec | None = added("0.2")
    parameters: dict[str, Scalar] = Field(default_factory=dict)

    reads_model_file = True

    @property
    def has_script_in_image(self) -> bool:
        return self.pod is not None and self.pod.has_script


class DatasetTask(ScriptTask):
    """A worker that runs the user's script on a data set, round by round. Without a model it makes the first one."""

    round: Annotated[int, Field(ge=0)]
    dataset: Label | None = None
    active: bool = True
    """False where the worker has nothing to do in this round; the agent keeps it running."""

    @property
    def revision(self) -> int:
        return self.round

    @property
    def is_due(self) -> bool:
        return self.active

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,) if self.dataset else ()


class TrainTask(DatasetTask):
    """Train on the edge's data. In round 0 the worker publishes the model's initial weights.

    Attributes:
        down: tensors that the job's algorithm sends down beside the model.
        personal: this edge's personal model; the worker trains it instead of the global one.
        needs: what the algorithm needs measured (``parameter_schema.MEASURES``).
        local_term: name of the term that the algorithm adds to the local training; empty for none.
        counted: digest of this edge's last counted update, where the edge keeps arrays from round to round.
        encoding: how its updates travel.
    """

    role: Literal["train"] = "train"
    framework: Text | None = None
    down: WeightsRef | None = added("0.2")
    personal: WeightsRef | None = added("0.2")
    needs: Annotated[list[Text], Field(max_length=16)] = added("0.2", [])
    local_term: Text = added("0.2", "")
    counted: Digest | None = added("0.2")
    encoding: UpdateEncoding | None = added("0.2")

    starts_idle = True  # a round may select a hundred of ten thousand edges

    @property
    def loaded(self) -> WeightsRef | None:
        return self.personal or self.model

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        return (self.down,)


class EvaluateTask(DatasetTask):
    """Measure a round's model on held-out data."""

    role: Literal["evaluate"] = "evaluate"


class LearnTask(DatasetTask):
    """One step of a round of incremental learning: train a candidate, or measure it beside the champion.

    ``model`` is, in training, the version to start from, and in an evaluation the candidate. ``dataset`` is the seed
    data set, which the script may read by itself.

    Attributes:
        learns: name of the model.
        attempt: a task that is begun again has a higher one.
        champion: in an evaluation the deployed version; absent where there is none.
        shards: in training the files of new labelled samples, in an evaluation those of held-out samples.
        memory: the exemplars that an earlier training kept.
        classes: the classes by their index in the model's scores.
        gate: the rule of the verdict.
        evaluation: version of the evaluation set.
        metric: name of the metric that is looked at.
    """

    has_new_samples = True

    role: Literal["learn"] = "learn"
    step: Literal["train", "evaluate"] = added("0.2", "train")
    learns: Text = added("0.2", "")
    attempt: int = added("0.2", 1)
    champion: WeightsRef | None = added("0.2")
    shards: list[ShardRef] = added("0.2", [])
    memory: WeightsRef | None = added("0.2")
    classes: list[ClassName] = added("0.2", [])
    gate: GateRule | None = added("0.2")
    evaluation: Text = added("0.2", "")
    metric: Text = added("0.2", "accuracy")

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        return (self.champion, self.memory, *(shard.weights for shard in self.shards))


class PairTask(DatasetTask):
    """One step of the training of a shallow and a deep model.

    ``dataset`` has the developer's samples, ``round`` counts the turns, and ``model`` is the version that a training
    starts from.

    Attributes:
        plan: how the pair is trained and measured.
        further_datasets: the other data sets by what they are for: ``public``, ``evaluation``.
        selection: the file that says which public samples were selected; absent before, and without a public data set.
        cloud, edge: the trained models, once there are.
        classes: the classes by their index, as far as an earlier step has named them.
    """


    role: Literal["pair"] = "pair"
    step: PairStep = added("0.2", "selecting")
    plan: PairPlan | None = added("0.2")
    further_datasets: dict[Label, Label] = added("0.2", {})
    selection: WeightsRef | None = added("0.2")
    cloud: WeightsRef | None = added("0.2")
    edge: WeightsRef | None = added("0.2")
    classes: list[ClassName] = added("0.2", [])

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        return self.selection, self.cloud, self.edge

    @property
    def datasets(self) -> tuple[str, ...]:
        return (*super().datasets, *self.further_datasets.values())


class AggregateTask(WorkerTaskBase):
    """Collect the updates of a round, and close it. The worker keeps its results: the agent fetches no model for it.

    Attributes:
        resumed: what the last round of an earlier run has left, for the first round of the run that goes on after it.
        edges_of_job: number of edges that train in the job, asked in this round or not; 0 where it is not known.
    """

    role: Literal["aggregate"] = "aggregate"
    round: Annotated[int, Field(ge=0)]
    algorithm: Text = "FedAvg"
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    collect: RoundSpec
    resumed: RoundState | None = added("0.2")
    edges_of_job: Count = added("0.2", 0)

    @property
    def revision(self) -> int:
        return self.round


class ServingTask(ScriptTask):
    """Answer requests of a service. A new generation starts a new worker; the running one takes every other change.

    Attributes:
        generation: generation of the service's spec that last changed what the worker runs.
        signature: the signature of the model's version; an agent with trusted keys runs no other.
        served: how the model's file is served in place of a script; an agent of 0.1 finds no script.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    generation: Annotated[int, Field(ge=0, alias="round")]
    framework: Text | None = None
    inference: InferenceSpec = Field(default_factory=InferenceSpec)
    signature: Envelope | None = added("0.2")
    served: ServedModel | None = added("0.2")

    serves = True

    @property
    def revision(self) -> int:
        return self.generation


class InferTask(ServingTask):
    """Answer requests on the edge, and offload hard samples to the cloud.

    Attributes:
        candidate: another version that answers some of the requests.
    """

    role: Literal["infer"] = "infer"
    candidate: CandidateModel | None = added("0.2")

    @property
    def besides(self) -> tuple[WeightsRef | None, ...]:
        return (self.candidate.model,) if self.candidate is not None and not self.candidate.refused else ()


class BigModelTask(ServingTask):
    """Answer offloaded hard samples in the cloud, with the deep model."""

    role: Literal["big-model"] = "big-model"


_Role = TrainTask | EvaluateTask | LearnTask | PairTask | AggregateTask | InferTask | BigModelTask
WorkerTask = Annotated[_Role, Field(discriminator="role")]
"""The task of a worker of any role."""

ROLES: dict[str, type[WorkerTaskBase]] = {each.model_fields["role"].default: each for each in get_args(_Role)}
"""The class of each role, by the role's name on the wire."""
