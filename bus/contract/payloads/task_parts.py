"""The parts of workers' tasks: what a worker runs, what it serves, and what it asks of its node."""

from typing import Annotated, Literal

from pydantic import Field

from heliograph.bus.contract.buckets import PACKAGES
from heliograph.bus.contract.payloads.base import Count, EdgeName, Payload, Text
from heliograph.bus.contract.resources.base import Scalar, WeightsRef
from heliograph.bus.contract.resources.label_queue import ClassName
from heliograph.bus.contract.resources.worker_image import (
    MOST_VARIABLES,
    MOST_VOLUMES,
    EnvVariable,
    ImageName,
    PodVolume,
)
from heliograph.bus.contract.versions import added
from heliograph.core.names import Digest, Label
from heliograph.core.package_paths import MAX_SIZE
from heliograph.core.signing import Envelope


class ScriptSpec(Payload):
    """The name of the user's code. The agent runs it only if it lies below one of its ``--code`` roots.

    Attributes:
        directory: the directory that the script imports from; by default its own.
        arguments: the script's ``sys.argv[1:]``.
        working_directory: the directory whose files the script finds by relative names; by default the one that it
            imports from. On each edge the script runs in a directory of its own with these files.
    """

    directory: Text = ""
    boot_file: Text
    arguments: Annotated[list[Text], Field(max_length=256)] = added("0.2", [])
    working_directory: Text = added("0.2", "")


class PodSpec(Payload):
    """The pod that a worker runs in, in place of a process of its agent.

    Attributes:
        identity: tells it from the pods of other jobs, and from those that the job had with other settings.
        python: interpreter of the image.
        has_script: whether the task's script lies in the image, and not on the node.
        env, volumes: what its container gets beside what every worker's has.
        cpu: cores that it asks for, as Kubernetes writes them; empty for none.
    """

    identity: Label
    image: ImageName
    python: Text = "python"
    has_script: bool = False
    env: Annotated[list[EnvVariable], Field(max_length=MOST_VARIABLES)] = Field(default_factory=list)
    volumes: Annotated[list[PodVolume], Field(max_length=MOST_VOLUMES)] = Field(default_factory=list)
    cpu: Text = ""


class PackageSpec(Payload):
    """The package whose script a worker runs. The agent runs it only if the node's operator has allowed its digest.

    Attributes:
        algorithm: name of the Algorithm, for people.
        digest: SHA-256 of the package, in the bucket ``packages``.
        size: bytes of the package.
        arguments: the script's ``sys.argv[1:]``.
        signature: an operator's statement that the digest may run.
    """

    algorithm: Label
    digest: Digest
    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    arguments: Annotated[list[Text], Field(max_length=256)] = Field(default_factory=list)
    signature: Envelope | None = None

    @property
    def ref(self) -> WeightsRef:
        """The reference to its blob."""
        return WeightsRef(digest=self.digest, size=self.size, bucket=PACKAGES)


class RoundSpec(Payload):
    """One round, for the aggregation worker to close.

    Attributes:
        participants: the edges that take part.
        reachable: the participants that are connected to the broker.
        quorum: number of valid updates at which the round closes.
        deadline_seconds: seconds after which the round closes with the updates that have arrived.
        samples: number of samples in an edge's data set, where known; it bounds the edge's ``num_samples``.
        start: sequence in the stream of updates at which the round starts.
        measure: whether the close record tells what the round says of each edge that was asked.
        count_bytes: whether the close record tells the bytes of updates that came.
    """

    participants: list[EdgeName]
    reachable: list[EdgeName]
    quorum: int | None = None
    deadline_seconds: float
    samples: dict[EdgeName, int] = Field(default_factory=dict)
    start: int = 1
    measure: bool = added("0.2", False)
    count_bytes: bool = added("0.2", False)


class InferenceSpec(Payload):
    """How an inference worker answers. JointInferenceServiceSpec explains the fields.

    Attributes:
        offloads: whether there is a deep model to ask.
    """

    rule: Text = "threshold"
    rule_parameters: dict[str, Scalar] = Field(default_factory=dict)
    temperature: Annotated[float, Field(gt=0)] = 1.0
    deadline_seconds: Annotated[float, Field(gt=0)] = 0.5
    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    fallback: Literal["edge", "error"] = "edge"
    max_batch: int = 32
    max_wait_seconds: float = 0.001
    hard_samples_to: Label | None = None
    offloads: bool = added("0.2", True)
    drift: Annotated[list[Label], Field(max_length=16)] = added("0.2", [])


class ServedModel(Payload):
    """A model that is served as its file, without a script of the user's.

    Attributes:
        output: name of the output with the scores; empty for the only one.
        outputs: what its numbers are; empty where the model tells.
        classes: the label of each score of the task's version; without any the file's own, or else 0, 1, 2, …
    """

    format: Literal["onnx", "tflite"]
    output: Text = ""
    outputs: Literal["", "probabilities", "logits", "values"] = ""
    classes: Annotated[list[ClassName], Field(max_length=1024)] = Field(default_factory=list)


class CandidateModel(Payload):
    """A version that answers a share of the requests beside the one that is deployed.

    Attributes:
        number: number of the version.
        share: of the requests, 0 to 1.
        salt: another salt picks other requests.
        signature: the signature of the version.
        classes: as in ``ServedModel``, of this version.
        refused: why the edge's agent does not let the version answer, told to its worker; empty where it may.
    """

    model: WeightsRef
    number: Count = 0
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    salt: Text = ""
    signature: Envelope | None = None
    classes: Annotated[list[ClassName], Field(max_length=1024)] = Field(default_factory=list)
    refused: Text = added("0.2", "")


class WorkerAsk(Payload):
    """What a worker asks of its node, and its place among those that ask for the same.

    Attributes:
        memory: bytes.
        priority: a higher one comes first, and takes the place of lower ones that run.
        since: the time at which its job or service was created; of two of the same priority the earlier comes first.
    """

    memory: Count = 0
    gpus: Count = 0
    priority: int = 0
    since: Text = ""
