"""Payloads between agents and workers on a node, log records, and replies to requests."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from heliograph.bus.contract.payloads.base import EdgeName, Payload, Text
from heliograph.bus.contract.versions import added
from heliograph.core.document_bounds import json_tree
from heliograph.core.names import Label


class WorkerState(Payload):
    """A worker's state, for its agent. ``hello`` requests the current assignment; ``left`` says that the script has
    left its loop over the rounds, and runs the code after it.

    Attributes:
        final: True where the script failed in a way that another start does not mend.
        round: the round in which the script left its loop; absent where its job has ended.
    """

    worker: Label
    state: Literal["hello", "failed", "left"]
    detail: Text = ""
    final: bool = added("0.2", False)
    round: int | None = added("0.2")


class Claim(Payload):
    """An agent's claim to its edge's name.

    Attributes:
        incarnation: this start of the agent.
        host: name of the agent's host, for people.
        state: path of the agent's state directory, for people.
        settled: True where an earlier claim of this agent found no other agent of its name.
        answer: True where this answers another agent's claim; nobody answers an answer.
    """

    edge: EdgeName
    incarnation: Text
    host: Text = ""
    state: Text = ""
    settled: bool = False
    answer: bool = False


class Ack(Payload):
    """The ``sequence`` up to which a producer's events are in the journal. ``incarnation`` is the producer's start."""

    incarnation: Text
    sequence: int


class LogRecord(Payload):
    """A line of a component's log."""

    level: Literal["debug", "info", "warning", "error"]
    component: Text
    message: Annotated[str, StringConstraints(max_length=65536)]
    time: Text = ""
    fields: Annotated[dict[str, Any], AfterValidator(json_tree)] = Field(default_factory=dict)


class Reply(Payload):
    """The reply to a request: ``ok`` with ``result``, or ``error`` with code, topic, field, expected, got, message."""

    ok: bool
    result: Any = None
    error: dict[str, Any] | None = None
