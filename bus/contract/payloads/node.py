"""What agents, workers and people's programs say to each other beside a job's results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from heliograph.bus.contract.payloads.base import EdgeName, Payload, Text
from heliograph.bus.contract.payloads.tasks import WorkerTask
from heliograph.bus.contract.versions import added
from heliograph.core.names import Label


class Assignment(Payload):
    """A task as the agent hands it to the worker process: its weights are files on this node, or inline.

    Attributes:
        number: counts an agent's assignments: one that was overtaken by a newer one is passed over.
        model_file: where the model lies that the worker loads.
        down_file: where the task's ``down`` lies.
    """

    number: int = 0
    task: WorkerTask
    edge: EdgeName
    model_file: Text = ""
    down_file: Text | None = added("0.2")
    dataset_file: Text = ""
    dataset_samples: int = 0
    ended: bool = False
    """The job is over: finish, there is no next round."""


class WorkerState(Payload):
    """A worker to its agent: what it is doing. ``hello`` asks for the assignment again."""

    worker: Label
    state: Literal["hello", "failed"]
    detail: Text = ""


class Claim(Payload):
    """An agent of this name runs.

    Attributes:
        host, state: where it runs, for people.
        settled: it has found no other agent of its name before.
        answer: to another's claim; it is not answered again.
    """

    edge: EdgeName
    incarnation: Text
    host: Text = ""
    state: Text = ""
    settled: bool = False
    answer: bool = False


class Ack(Payload):
    """The highest of a producer's events that is on disk. ``incarnation`` tells its restarts apart."""

    incarnation: Text
    sequence: int


class LogRecord(Payload):
    """A line of a component's log."""

    level: Literal["debug", "info", "warning", "error"]
    component: Text
    message: Annotated[str, StringConstraints(max_length=65536)]
    time: Text = ""
    fields: dict[str, Any] = Field(default_factory=dict)


class Reply(Payload):
    """The answer to a request: ``ok`` with ``result``, or ``error``: code, topic, field, expected, got, message."""

    ok: bool
    result: Any = None
    error: dict[str, Any] | None = None
