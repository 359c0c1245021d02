"""Every topic, declared once. Permissions, streams, validation, the topic table and AsyncAPI all come from here.

An address is a topic below the root with its parameters filled in, ``event/task/edge-1``; a pattern may hold ``+``
for one word and end in ``#`` for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract import payloads
from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import Refused
from heliograph.core.names import is_label, require_label

P = TypeVar("P", bound=BaseModel)
Delivery = Literal["request", "status", "event", "ack", "inference", "log"]
Role = Literal["anonymous", "operator", "coordinator", "agent", "worker", "cloud-worker"]
Bridged = Literal["up", "down", "no"]

DEFAULT_ROOT = "heliograph"
RESULTS, BULK = LANES = (0, 1)
KIB, MIB, DAY = 1024, 1024 * 1024, 86400


@dataclass(frozen=True)
class Stream:
    """How a topic's events are kept in JetStream.

    Attributes:
        last_value: keep only the newest message of each address, and answer for it directly.
        max_age: seconds after which a message is dropped; 0 keeps it.
        max_bytes: of the whole stream; the oldest go first.
    """

    name: str
    last_value: bool = False
    max_age: float = 0
    max_bytes: int = -1


@dataclass(frozen=True)
class Topic(Generic[P]):
    """One declared topic.

    Attributes:
        pattern: words below the root; ``{name}`` is one word, a closing ``#`` one or more of them.
        publishers, subscribers: roles; what is not named is forbidden at the broker.
        bridged: whether the agent carries it from the node to the cloud (up), or back (down).
        quota: what the journal does at its disk quota: ``keep`` refuses new ones, ``drop-oldest`` drops and counts.
        max_size: bytes of one message.
        node_only: never leaves the node's broker.
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
    params: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        words = self.pattern.split("/")
        object.__setattr__(self, "params", tuple(word[1:-1] for word in words if word.startswith("{")))

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.pattern.split("/"))

    @property
    def name(self) -> str:
        """The topic's own word: ``model-update`` of ``event/model-update/{job}/{edge}``."""
        if self.delivery == "inference":
            return f"inference-{self.words[2]}"
        return self.words[1] if self.delivery == "event" else self.words[0]

    @property
    def stream_name(self) -> str:
        """The name of the stream that keeps its events. Raises ValueError where none does."""
        if self.stream is None:
            raise ValueError(f"no stream keeps {self.pattern}")
        return self.stream.name

    @property
    def lane(self) -> int:
        """Priority between node and cloud: task results pass what may be dropped. Order holds within a lane."""
        return BULK if self.quota == "drop-oldest" else RESULTS

    @property
    def type(self) -> str:
        """The CloudEvents type of its events."""
        return f"heliograph.{self.name}.v1"

    def at(self, *rest: str, **params: str) -> str:
        """The address with these parameters; ``rest``, one word or more, fills a closing ``#``. Raises Refused where
        a word is no label."""
        if bool(rest) != (self.words[-1] == "#"):
            raise Refused("invalid", field="topic", expected=self.pattern, got="/".join(rest) or "nothing for '#'")
        words = [
            require_label(params[word[1:-1]], word[1:-1]) if word.startswith("{") else word
            for word in self.words
            if word != "#"
        ]
        return "/".join([*words, *(require_label(word, "topic") for word in rest)])

    def filter(self, **params: str) -> str:
        """The pattern that matches every address with these parameters, ``+`` for the others. Raises Refused where
        one is no label: a wildcard would widen what a role may see."""
        for name, value in params.items():
            require_label(value, name)
        return "/".join(params.get(word[1:-1], "+") if word.startswith("{") else word for word in self.words)

    @cached_property
    def _places(self) -> tuple[tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]:
        """Where a word is fixed, and where it is a parameter."""
        fixed = tuple((at, word) for at, word in enumerate(self.words) if word[0] not in "{#")
        return fixed, tuple((at, word[1:-1]) for at, word in enumerate(self.words) if word[0] == "{")

    def match(self, address: str) -> dict[str, str] | None:
        """The parameters of an address, or None where it is another topic's."""
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
        """The payload that ``data`` is. What it makes of unknown fields holds at every depth: also of a part that is
        strict in a resource. Raises Refused naming the address and the wrong field."""
        if not isinstance(data, dict):
            raise Refused("invalid", topic=address, expected=f"a {self.payload.__name__} mapping", got=data)
        try:
            return self.payload.model_validate(data, extra=self.payload.model_config["extra"])
        except ValidationError as error:
            raise refusal_of(error, address) from None


REQUEST = Topic(
    "request/{resource}/{verb}", payloads.Anything, "request", ("anonymous", "operator"), ("coordinator",),
    "One request, one reply; at least once, idempotent by name and document. A bare JSON document is accepted.",
    max_size=MIB,
)  # fmt: skip
REPLY = Topic(
    "reply/{client}/{id}", payloads.Reply, "request", ("coordinator", "worker"), ("anonymous", "operator"),
    "The reply, for a client without a response topic of its own: the request names this topic in reply_to.",
    max_size=MIB,
)  # fmt: skip
STATUS = Topic(
    "status/{resource}/{name}", payloads.Anything, "status", ("coordinator",), ("anonymous", "operator"),
    "The last value of a resource, retained: a job's phase and round, an edge's presence.",
    retained=True, max_size=256 * KIB,
)  # fmt: skip
TASK = Topic(
    "event/task/{edge}", payloads.Desired, "event", ("coordinator",), ("agent",),
    "The whole desired document of that edge, with its generation.",
    bridged="down", max_size=MIB, stream=Stream("TASKS", last_value=True),
)  # fmt: skip
REPORT = Topic(
    "event/report/{edge}", payloads.Report, "event", ("agent",), ("coordinator",),
    "The reported document of that edge, with the generation it has reached.",
    max_size=256 * KIB, stream=Stream("REPORTS", last_value=True),
)  # fmt: skip
MODEL_UPDATE = Topic(
    "event/model-update/{job}/{edge}", payloads.ModelUpdate, "event", ("worker", "agent"), ("cloud-worker",),
    "A participant's update of one round: base digest, weights by digest or inline, num_samples, metrics.",
    bridged="up", max_size=512 * KIB, stream=Stream("UPDATES", max_age=7 * DAY),
)  # fmt: skip
AGGREGATION = Topic(
    "event/aggregation/{job}", payloads.Aggregation, "event", ("cloud-worker",), ("coordinator", "agent"),
    "A round is closed: the global model, who counted, who was refused or late and why.",
    bridged="down", max_size=MIB, stream=Stream("AGGREGATIONS", max_age=30 * DAY),
)  # fmt: skip
EVALUATION = Topic(
    "event/evaluation/{job}", payloads.Evaluation, "event", ("worker", "cloud-worker", "agent"), ("coordinator",),
    "A global model measured on held-out data.",
    bridged="up", stream=Stream("EVALUATIONS", max_age=30 * DAY),
)  # fmt: skip
HARD_SAMPLE = Topic(
    "event/hard-sample/{job}/{edge}", payloads.HardSample, "event", ("worker", "agent"), ("cloud-worker",),
    "A sample that the edge's model was not sure of, with its scores.",
    bridged="up", quota="drop-oldest", max_size=512 * KIB,
    stream=Stream("SAMPLES", max_age=7 * DAY, max_bytes=4096 * MIB),
)  # fmt: skip
LABEL = Topic(
    "event/label/{job}", payloads.SampleLabel, "event", ("worker", "cloud-worker", "operator", "agent"),
    ("cloud-worker",), "A label for a sample.", bridged="up", stream=Stream("LABELS", max_age=30 * DAY),
)  # fmt: skip
TELEMETRY = Topic(
    "event/telemetry/{edge}/{device}", payloads.Anything, "event", ("anonymous", "agent"), ("operator",),
    "An application's own events, journalled and replayed like ours. On a node's broker any device may publish them.",
    bridged="up", quota="drop-oldest", max_size=256 * KIB,
    stream=Stream("TELEMETRY", max_age=7 * DAY, max_bytes=4096 * MIB),
)  # fmt: skip
ASSIGNMENT = Topic(
    "event/assignment/{worker}", payloads.Assignment, "event", ("agent",), ("worker", "cloud-worker"),
    "What a worker shall do now, with its files on this node.", max_size=MIB, node_only=True,
)  # fmt: skip
WORKER = Topic(
    "event/worker/{worker}", payloads.WorkerState, "event", ("worker", "cloud-worker"), ("agent",),
    "A worker tells its agent what it is doing.", node_only=True,
)  # fmt: skip
ACK = Topic(
    "ack/{producer}", payloads.Ack, "ack", ("agent",), ("worker", "anonymous"),
    "The highest of that producer's events that is on disk.", node_only=True,
)  # fmt: skip
CLAIM = Topic(
    "claim/{edge}", payloads.Claim, "request", ("agent",), ("agent",),
    "An agent asks at each connect whether another of its name runs; one that does answers, and one of them ends.",
)  # fmt: skip
INFERENCE_STATS = Topic(
    "event/inference-stats/{service}/{edge}/{worker}", payloads.InferenceStats, "event",
    ("worker", "cloud-worker", "agent"), ("coordinator",),
    "What an inference worker has answered since it was started.",
    bridged="up", quota="drop-oldest", stream=Stream("INFERENCE", last_value=True, max_age=DAY),
)  # fmt: skip
INFERENCE_REQUEST = Topic(
    "inference/{service}/request", payloads.Anything, "inference", ("anonymous", "worker"), ("worker", "cloud-worker"),
    "A device asks on its node's broker; the answer goes to its response topic, or to the reply_to in the document.",
    max_size=8 * MIB,
)  # fmt: skip
OFFLOAD = Topic(
    "inference/{service}/offload/{client}/{id}", payloads.Anything, "inference", ("anonymous", "worker"), ("agent",),
    "A hard sample on its way to the cloud's model, from whoever on the node runs the edge's.",
    bridged="up", max_size=8 * MIB,
)  # fmt: skip
BIG_MODEL = Topic(
    "inference/{service}/big-model/{edge}", payloads.Anything, "inference", ("agent",), ("cloud-worker",),
    "The same in the cloud: replicas of the deep model share it.", max_size=8 * MIB,
)  # fmt: skip
ANSWER = Topic(
    "inference/{service}/answer/{edge}/{client}/{id}", payloads.Anything, "inference", ("cloud-worker", "agent"),
    ("agent", "anonymous", "worker"), "The deep model's answer, to the agent and from it to who asked on the node.",
    bridged="down", max_size=8 * MIB,
)  # fmt: skip
LOG = Topic(
    "log/{component}/#", payloads.LogRecord, "log", ("coordinator", "agent", "worker", "cloud-worker"), ("operator",),
    "Logs and metrics; may be dropped.", bridged="up", quota="drop-oldest", max_size=128 * KIB,
)  # fmt: skip

CORE: tuple[Topic[Any], ...] = (
    REQUEST, REPLY, STATUS, TASK, REPORT, TELEMETRY, ASSIGNMENT, WORKER, ACK, CLAIM, LOG,
)  # fmt: skip
"""The topics of no feature; ``features.BUILT_IN`` names the others."""
