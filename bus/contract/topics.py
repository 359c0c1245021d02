"""Every topic, declared once. Permissions, streams, validation, ``topics.md`` and AsyncAPI are derived from it.

An address is a topic below the root with its parameters filled in, such as ``event/task/edge-1``. A pattern may
contain ``+`` for one word and end in ``#`` for one word or more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import MAX_SAMPLE
from heliograph.core.errors import Refused
from heliograph.core.lazy import Declaration, References
from heliograph.core.names import is_label, require_label

if TYPE_CHECKING:
    from heliograph.bus.contract import enrolment_requests, payloads
else:
    payloads = References("heliograph.bus.contract.payloads")
    enrolment_requests = References("heliograph.bus.contract.enrolment_requests")

P = TypeVar("P", bound=BaseModel)
Delivery = Literal["request", "status", "event", "ack", "inference", "log", "blob"]
Role = Literal[
    "anonymous", "newcomer", "user", "participant", "operator", "coordinator", "agent", "worker", "cloud-worker"
]  # fmt: skip
Bridged = Literal["up", "down", "no"]

DEFAULT_ROOT = "heliograph"
EDGE = "edge"
"""First word of the topics that are one edge's own; the second one is the edge's name."""
RESULTS, BULK = LANES = (0, 1)
KIB, MIB, DAY = 1024, 1024 * 1024, 86400


@dataclass(frozen=True)
class Stream:
    """The JetStream stream that stores a topic's events.

    Attributes:
        last_value: keep only the newest message of each address.
        max_age: seconds after which the stream drops a message; 0 keeps it.
        max_bytes: size of the whole stream, beyond which it drops its oldest messages; -1 for no limit.
            nats-server sets as much of its disk aside.
        max_messages: number of messages, likewise; it reserves nothing.
        sure: whether a publisher waits until its message is stored and synced. Otherwise the broker stores what passes,
            and a power failure may lose the newest of it.
        append_only: whether no login may delete or purge its messages. Only its bounds drop the oldest.
    """

    name: str
    last_value: bool = False
    max_age: float = 0
    max_bytes: int = -1
    max_messages: int = -1
    sure: bool = True
    append_only: bool = False


@dataclass(frozen=True, eq=False)  # each is declared once, and comparing its fields would load the payload's class
class Topic(Declaration, Generic[P]):
    """One declared topic.

    Attributes:
        pattern: words below the root; ``{name}`` is one word, a closing ``#`` one or more of them.
        publishers, subscribers: roles that may; the broker refuses all others.
        bridged: whether the agent forwards it from the node to the cloud (up) or back (down).
        quota: behaviour of the journal at its disk quota: ``keep`` refuses new events, ``drop-oldest`` drops and
            counts the oldest.
        max_size: bytes of one message, at most.
        node_only: True where its messages never leave the node's broker.
        own_name: its name where its own word names another topic too.
    """

    pattern: str
    payload: type[P]
    delivery: Delivery
    publishers: tuple[Role, ...]
    subscribers: tuple[Role, ...]
    doc: str
    bridged: Bridged = "no"
    quota: Literal["keep", "drop-oldest"] = "keep"
    max_size: int = 64 * KIB
    retained: bool = False
    stream: Stream | None = None
    node_only: bool = False
    own_name: str = ""
    params: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        words = self.pattern.split("/")
        object.__setattr__(self, "params", tuple(word[1:-1] for word in words if word.startswith("{")))

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.pattern.split("/"))

    @property
    def name(self) -> str:
        """Its name, unique in a registry: its own word, ``model-update`` in ``edge/{edge}/up/model-update/{job}``."""
        return self.own_name or self._own_word

    @property
    def of_edge(self) -> bool:
        """Whether it is one edge's own. Its address begins with ``edge/`` and the edge's name, so that one rule of the
        broker gives an edge all that is its own, in each direction (``up`` to the cloud, ``down`` to the edge)."""
        return self.words[0] == EDGE

    @property
    def _own_word(self) -> str:
        if self.of_edge:
            word = self.words[3] if self.words[2] in ("up", "down") else self.words[2]
        elif self.delivery == "inference":
            word = self.words[2]
        else:
            word = self.words[1] if self.delivery == "event" else self.words[0]
        return f"inference-{word}" if self.delivery == "inference" else word

    @property
    def stream_name(self) -> str:
        """The name of the stream that stores its events. Raises ValueError if it has none."""
        if self.stream is None:
            raise ValueError(f"no stream keeps {self.pattern}")
        return self.stream.name

    @property
    def awaits_storing(self) -> bool:
        """Whether a publisher in the cloud waits until its message is stored."""
        return self.stream is not None and self.stream.sure and not self.node_only

    @property
    def lane(self) -> int:
        """Priority between node and cloud: results overtake events that may be dropped. A lane keeps its order."""
        return BULK if self.quota == "drop-oldest" else RESULTS

    @property
    def type(self) -> str:
        """The CloudEvents type of its events."""
        return f"heliograph.{self._own_word}.v1"

    def at(self, *rest: str, **params: str) -> str:
        """Return the address with these parameters; ``rest``, one word or more, fills a closing ``#``. Raises Refused
        if a word is no label."""
        if bool(rest) != (self.words[-1] == "#"):
            raise Refused("invalid", field="topic", expected=self.pattern, got="/".join(rest) or "nothing for '#'")
        words = [
            require_label(params[word[1:-1]], word[1:-1]) if word.startswith("{") else word
            for word in self.words
            if word != "#"
        ]
        return "/".join([*words, *(require_label(word, "topic") for word in rest)])

    def filter(self, **params: str) -> str:
        """Return the pattern of every address with these parameters, with ``+`` for the others. Raises Refused if a
        value is no label: a wildcard would widen a role's permissions."""
        for name, value in params.items():
            require_label(value, name)
        return "/".join(params.get(word[1:-1], "+") if word.startswith("{") else word for word in self.words)

    @cached_property
    def _places(self) -> tuple[tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]:
        """The positions of the fixed words, and those of the parameters."""
        fixed = tuple((at, word) for at, word in enumerate(self.words) if word[0] not in "{#")
        return fixed, tuple((at, word[1:-1]) for at, word in enumerate(self.words) if word[0] == "{")

    def match(self, address: str) -> dict[str, str] | None:
        """Return the parameters of an address, or None if it belongs to another topic."""
        words = address.split("/")
        tail = self.words[-1] == "#"
        if len(words) != len(self.words) and not (tail and len(words) >= len(self.words)):
            return None
        fixed, named = self._places
        for at, word in fixed:
            if words[at] != word:
                return None
        found: dict[str, str] = {}
        for at, name in named:
            if not is_label(words[at]):
                return None
            found[name] = words[at]
        if tail and not all(map(is_label, words[len(self.words) - 1 :])):
            return None
        return found

    def validate(self, data: Any, address: str) -> P:
        """Return the validated payload. Raises Refused naming the address and the wrong field.

        The payload's rule for unknown fields holds at every depth, also in a part that is strict in a resource.
        """
        if issubclass(self.payload, RootModel):  # data of any form
            return self.payload.model_validate(data)
        if not isinstance(data, dict):
            raise Refused("invalid", topic=address, expected=f"a {self.payload.__name__} mapping", got=data)
        try:
            return self.payload.model_validate(data, extra=self.payload.model_config["extra"])
        except ValidationError as error:
            raise refusal_of(error, address) from None


REQUEST = Topic(
    "request/{resource}/{verb}", payloads.Anything, "request", ("user", "participant", "operator"), ("coordinator",),
    "A request to the coordinator, which sends one reply. The body is an event or a bare JSON document. A participant "
    "asks only what it needs to take part in a job.",
    max_size=MIB,
)  # fmt: skip
REPLY = Topic(
    "reply/{client}/{id}", payloads.Reply, "request", ("coordinator", "worker"),
    ("anonymous", "user", "participant", "operator"),
    "The reply to a client that has no response topic (MQTT 3.1.1): the request names this topic in reply_to. In the "
    "cloud a user reads only replies whose client is the user's own name; on a node's broker any device reads them.",
    max_size=MIB,
)  # fmt: skip
STATUS = Topic(
    "status/{resource}/{name}", payloads.Anything, "status", ("coordinator",),
    ("anonymous", "user", "participant", "operator"),
    "The newest status of a resource, such as a job's phase and round or an edge's presence.",
    retained=True, max_size=256 * KIB,
)  # fmt: skip
TASK = Topic(
    "edge/{edge}/down/task", payloads.Desired, "event", ("coordinator",), ("agent",),
    "The whole desired document of the edge, with its generation.",
    bridged="down", max_size=MIB, stream=Stream("TASKS", last_value=True, max_messages=100_000),
)  # fmt: skip
REPORT = Topic(
    "edge/{edge}/up/report", payloads.Report, "event", ("agent",), ("coordinator",),
    "The reported document of the edge, with the generation that it has reached.",
    max_size=256 * KIB, stream=Stream("REPORTS", last_value=True, max_messages=100_000),
)  # fmt: skip
OFFERS = Topic(
    "edge/{edge}/up/offers", payloads.Offer, "event", ("agent",), ("coordinator",),
    "What the edge's workers can run, beside its reported document: it is large, and changes with an installation.",
    max_size=256 * KIB, stream=Stream("OFFERS", last_value=True, max_messages=100_000),
)  # fmt: skip
MODEL_UPDATE = Topic(
    "edge/{edge}/up/model-update/{job}", payloads.ModelUpdate, "event", ("worker", "agent", "participant"),
    ("cloud-worker",),
    "A participant's local update of one round: base digest, weights by digest or inline, num_samples, metrics.",
    bridged="up", max_size=512 * KIB, stream=Stream("UPDATES", max_age=7 * DAY, max_bytes=2048 * MIB),
)  # fmt: skip
AGGREGATION = Topic(
    "event/aggregation/{job}", payloads.Aggregation, "event", ("cloud-worker",), ("coordinator",),
    "The close of a round: the global model, the updates that were counted, and those refused or late, with reasons.",
    max_size=4 * MIB, stream=Stream("AGGREGATIONS", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
EVALUATION = Topic(
    "edge/{edge}/up/evaluation/{job}", payloads.Evaluation, "event", ("worker", "cloud-worker", "agent"),
    ("coordinator",),
    "The metrics of a global model on held-out data. The coordinator takes them from the node of the job's evaluation "
    "worker alone.", bridged="up", stream=Stream("EVALUATIONS", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
CANDIDATE = Topic(
    "edge/{edge}/up/candidate/{job}", payloads.Candidate, "event", ("worker", "cloud-worker", "agent"),
    ("coordinator",),
    "The weights that a round of incremental learning has trained. Where the job's location is the edge it stays on "
    "the node.",
    bridged="up", max_size=MIB, stream=Stream("CANDIDATES", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
VERDICT = Topic(
    "edge/{edge}/up/verdict/{job}", payloads.VerdictReport, "event", ("worker", "cloud-worker", "agent"),
    ("coordinator",),
    "What the gate says of a candidate, measured beside the champion on held-out samples.",
    bridged="up", max_size=256 * KIB, stream=Stream("VERDICTS", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
PAIR_RESULT = Topic(
    "edge/{edge}/up/pair-result/{job}", payloads.PairResult, "event", ("worker", "cloud-worker", "agent"),
    ("coordinator",),
    "What a step of a pair training job has made: the selection of public samples, a trained model, or what was "
    "measured of the pair.",
    bridged="up", max_size=MIB, stream=Stream("PAIR_RESULTS", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
JOB_ENDED = Topic(
    "event/job-ended/{job}", payloads.JobEnded, "event", ("coordinator",),
    ("anonymous", "user", "participant", "operator"),
    "A job has ended: published once its end is stored and its model is registered. It may come twice, with the same "
    "id.", stream=Stream("ENDINGS", max_age=30 * DAY, max_messages=16_384),
)  # fmt: skip
HARD_SAMPLE = Topic(
    "edge/{edge}/up/hard-sample/{job}", payloads.HardSample, "event", ("worker", "agent"),
    ("cloud-worker", "coordinator"),
    "A sample that the hard-sample rule found hard for the edge's model, with its scores.",
    bridged="up", quota="drop-oldest", max_size=MAX_SAMPLE + 256 * KIB,
    stream=Stream("SAMPLES", max_age=7 * DAY, max_bytes=4096 * MIB),
)  # fmt: skip
LABEL_TASK = Topic(
    "edge/{edge}/up/label-task/{job}", payloads.LabelTask, "event", ("coordinator", "agent"),
    ("operator", "coordinator"),
    "A sample waits for labels, without the sample itself: `request/labels/claim` gives it to a labeller.",
    bridged="up", max_size=128 * KIB,
    stream=Stream("LABEL_TASKS", max_age=30 * DAY, max_messages=131_072),
)  # fmt: skip
LABEL = Topic(
    "edge/{edge}/up/label/{job}", payloads.Annotation, "event",
    ("coordinator", "agent", "operator"), ("operator", "cloud-worker", "coordinator"),
    "A label of one labeller, or that the labeller skipped the task. Labellers send it by `request/labels/submit`: "
    "whoever answers that has checked it, and publishes it.",
    bridged="up", max_size=256 * KIB, stream=Stream("LABELS", max_age=30 * DAY, max_messages=131_072),
)  # fmt: skip
TELEMETRY = Topic(
    "event/telemetry/{edge}/{device}", payloads.AnyData, "event", ("anonymous", "agent"), ("operator",),
    "An application's own event. The agent journals and forwards it. On a node's broker any device may publish it.",
    bridged="up", quota="drop-oldest", max_size=256 * KIB,
    stream=Stream("TELEMETRY", max_age=7 * DAY, max_bytes=4096 * MIB),
)  # fmt: skip
ASSIGNMENT = Topic(
    "event/assignment/{worker}", payloads.Assignment, "event", ("agent",), ("worker", "cloud-worker"),
    "A worker's current task, with the paths of its files on the node; signed with the secret of its launch.",
    max_size=MIB, node_only=True,
)  # fmt: skip
WORKER = Topic(
    "event/worker/{worker}", payloads.WorkerState, "event", ("worker", "cloud-worker"), ("agent",),
    "A worker's state, for its agent; signed with the secret of its launch.", node_only=True,
)  # fmt: skip
ACK = Topic(
    "ack/{producer}", payloads.Ack, "ack", ("agent",), ("anonymous",),
    "The highest sequence up to which a device's events are in the agent's journal.", node_only=True,
)  # fmt: skip
WORKER_ACK = Topic(
    "ack/worker/{worker}", payloads.Ack, "ack", ("agent",), ("worker",),
    "The same for a worker's events, signed with the secret of the worker's launch.", node_only=True,
    own_name="worker-ack",
)  # fmt: skip
CLAIM = Topic(
    "edge/{edge}/claim", payloads.Claim, "request", ("agent",), ("agent",),
    "An agent asks at each connect whether another agent of its name runs; if one answers, one of the two ends.",
)  # fmt: skip
RENEWAL = Topic(
    "edge/{edge}/up/renewal", enrolment_requests.Renew, "request", ("agent",), ("coordinator",),
    "An edge asks for a login that is good for longer; the answer is that of `request/invitations/renew`. The edge in "
    "the topic is the one that asks, since its account alone leads there; it may ask for its own login alone.",
)  # fmt: skip
INFERENCE_STATS = Topic(
    "edge/{edge}/up/inference-stats/{service}/{worker}", payloads.InferenceStats, "event",
    ("worker", "cloud-worker", "agent"), ("coordinator",),
    "Counts and latencies of one inference worker since its start.",
    bridged="up", quota="drop-oldest", stream=Stream("INFERENCE", last_value=True, max_age=DAY, max_messages=50_000),
)  # fmt: skip
INFERENCE_REQUEST = Topic(
    "inference/{service}/request", payloads.InferenceRequest, "inference", ("anonymous", "user", "worker"),
    ("worker", "cloud-worker"),
    "An inference request on the node's broker. The answer goes to its response topic, or to reply_to in the document.",
    max_size=8 * MIB,
)  # fmt: skip
OFFLOAD = Topic(
    "inference/{service}/offload/{client}/{id}", payloads.InferenceRequest, "inference", ("anonymous", "worker"),
    ("agent",),
    "A hard sample that a process on the node offloads to the deep model; the agent forwards it.",
    bridged="up", max_size=8 * MIB,
)  # fmt: skip
BIG_MODEL = Topic(
    "edge/{edge}/up/big-model/{service}", payloads.InferenceRequest, "inference", ("agent",), ("cloud-worker",),
    "An offloaded hard sample in the cloud. The replicas of the deep model share the requests.", max_size=8 * MIB,
)  # fmt: skip
BIG_MODEL_ANSWER = Topic(
    "edge/{edge}/down/big-model-answer/{service}/{client}/{id}", payloads.InferenceAnswer, "inference",
    ("cloud-worker",), ("agent",), "The deep model's answer to an offloaded sample, on its way to the edge.",
    max_size=8 * MIB,
)  # fmt: skip
ANSWER = Topic(
    "inference/{service}/answer/{edge}/{client}/{id}", payloads.InferenceAnswer, "inference", ("agent",),
    ("anonymous", "worker"), "The deep model's answer on the node's broker, where the agent publishes it.",
    max_size=8 * MIB, node_only=True,
)  # fmt: skip
BLOB_ASK = Topic(
    "edge/{edge}/up/blob-ask", payloads.BlobAsk, "blob", ("agent",), ("coordinator",),
    "An edge asks the cloud for chunks of a blob that its desired document names, or of the newest model of its job.",
)  # fmt: skip
BLOB_CHUNK = Topic(
    "edge/{edge}/down/blob-chunk/{id}", payloads.Anything, "blob", ("coordinator",), ("agent",),
    "A chunk of a blob of the cloud, bytes without an envelope. The cloud's broker sends it from the bucket.",
    max_size=2 * MIB,
)  # fmt: skip
UPLOAD_ASK = Topic(
    "edge/{edge}/down/upload-ask", payloads.BlobAsk, "blob", ("coordinator", "cloud-worker", "operator"), ("agent",),
    "The cloud asks an edge for chunks of weights that an event of the edge has named.",
)  # fmt: skip
UPLOAD_CHUNK = Topic(
    "edge/{edge}/up/upload-chunk/{id}", payloads.Anything, "blob", ("agent",),
    ("coordinator", "cloud-worker", "operator"),
    "A chunk of weights that lie on the edge's disk, bytes without an envelope.", max_size=2 * MIB,
)  # fmt: skip
UPLOAD_OFFER = Topic(
    "edge/{edge}/up/upload-offer", payloads.UploadOffer, "blob", ("agent",), ("coordinator",),
    "An edge asks the cloud to take weights into the edge's bucket now, so that they outlive the edge.",
)  # fmt: skip
UPLOAD_SETTLED = Topic(
    "edge/{edge}/down/upload-settled", payloads.UploadSettled, "blob", ("coordinator",), ("agent",),
    "The cloud needs these weights of the edge no longer: it has them, or will never take them.",
)  # fmt: skip
MODEL_READY = Topic(
    "edge/{edge}/down/model-ready/{job}", payloads.ModelReady, "blob", ("coordinator",), ("agent",),
    "A round of a job that the edge takes part in has closed with this model: a hint to fetch it now.",
)  # fmt: skip
LOG = Topic(
    "edge/{edge}/up/log/{component}/#", payloads.LogRecord, "log",
    ("coordinator", "agent", "worker", "cloud-worker"), ("operator",),
    "A line of a component's log. Lines that no link carries are dropped.", bridged="up", quota="drop-oldest",
    max_size=128 * KIB, stream=Stream("LOGS", max_age=7 * DAY, max_bytes=64 * MIB, sure=False),
)  # fmt: skip
AUDIT = Topic(
    "event/audit", payloads.AuditRecord, "event", ("coordinator",), ("operator",),
    "A decision of the coordinator: who asked for what, and whether it was done. Each record has the hash of the one "
    "before.", stream=Stream("AUDIT", max_messages=1_000_000, append_only=True),
)  # fmt: skip

CORE: tuple[Topic[Any], ...] = (
    REQUEST, REPLY, STATUS, TASK, REPORT, OFFERS, TELEMETRY, ASSIGNMENT, WORKER, ACK, WORKER_ACK, CLAIM, BLOB_ASK,
    BLOB_CHUNK, UPLOAD_ASK, UPLOAD_CHUNK, UPLOAD_OFFER, UPLOAD_SETTLED, LOG, AUDIT,
)  # fmt: skip
"""The topics that belong to no feature; ``features.BUILT_IN`` lists the others."""
