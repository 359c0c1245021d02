"""The outcome of a run, computed from its messages one by one, during a simulation or from a trace of a real run.

The messages of ten thousand edges do not fit into memory, so only numbers are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.registry import find
from heliograph.bus.contract.resources import ENDED
from heliograph.bus.contract.topics import AGGREGATION, EVALUATION, MODEL_UPDATE, REPORT, STATUS, TASK
from heliograph.bus.traces.recorded import Recorded
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.simulations.scenario.outcome import EdgeOutcome, JobOutcome, Outcome, RoundOutcome
from heliograph.simulations.scenario.timeline import Timeline

SECOND = 1_000_000_000
SETTLED = 2
"""Number of rounds that must close after an update's arrival before it counts as lost: the open round and the next one,
which mentions updates that arrived during the close."""
REASONS = 20
"""Number of different reasons for refusals kept for a job."""


@dataclass
class _JobState:
    """The state of a job while it runs."""

    outcome: JobOutcome
    closed: dict[int, dict[str, str]] = field(default_factory=dict)
    """Counted digests by edge, for each closed round."""
    waiting: dict[tuple[int, str], int] = field(default_factory=dict)
    """Number of rounds closed at the arrival of each update that no round has mentioned yet, by round and edge."""
    mentioned: dict[tuple[int, str], None] = field(default_factory=dict)
    """Updates mentioned by a closed round, by round and edge."""
    counted_as: dict[tuple[str, str], int] = field(default_factory=dict)
    """Round that counted an update, by edge and digest."""
    asked: dict[int, int] = field(default_factory=dict)
    """Number of participants asked, by round."""
    asked_edges: dict[int, dict[str, None]] = field(default_factory=dict)
    """Participants of each open round; they may change while it is open."""
    edges: dict[str, None] = field(default_factory=dict)
    refused: dict[str, None] = field(default_factory=dict)


@dataclass
class _EdgeState:
    outcome: EdgeOutcome
    away_since: float | None = None
    seen_online: bool = False
    blobs: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """Digests of the last blobs that the edge has sent or received."""

    def transferred(self, weights: Mapping[str, Any]) -> int:
        """Return the bytes that a blob's transfer takes; none if the edge has it already."""
        if weights["digest"] in self.blobs:
            return 0
        self.blobs.append(weights["digest"])
        return int(weights["size"])


class Observer:
    """Collector of a run's messages; ``outcome`` returns the outcome so far.

    Args:
        began: start of the run in nanoseconds since 1970; default: the time of the first message.
        timeline: planned changes, if there were any.
    """

    def __init__(self, began: int | None = None, timeline: Timeline | None = None) -> None:
        self._began = began
        self._timeline = timeline
        self._last = began or 0
        self._messages = 0
        self._unreadable = 0
        self._jobs: dict[str, _JobState] = {}
        self._uids: dict[str, str] = {}
        self._planned: dict[str, int] = {}
        self._edges: dict[str, _EdgeState] = {}
        self._handlers: dict[str, Callable[[dict[str, str], dict[str, Any], Recorded], None]] = {
            MODEL_UPDATE.pattern: self._update, AGGREGATION.pattern: self._aggregation,
            EVALUATION.pattern: self._evaluation, TASK.pattern: self._task,
            STATUS.pattern: self._status,
        }  # fmt: skip

    def observe(self, recorded: Recorded) -> None:
        """Take the next message. Count unknown and unreadable messages, and skip them."""
        if self._began is None:
            self._began = self._last = recorded.log_time
        self._last = max(self._last, recorded.log_time)
        self._messages += 1
        try:
            topic, params = find(recorded.topic)
        except Refused:
            return
        handler = self._handlers.get(topic.pattern)
        if handler is None:
            if "edge" in params and (topic.bridged == "up" or (topic is REPORT and params["edge"] != CLOUD)):
                self._edge(params["edge"]).outcome.bytes_up += len(recorded.body)
            return
        if not recorded.body:  # a deleted resource
            return
        try:
            data = decode(recorded.body, recorded.topic).data
            handler(params, data, recorded)
        except (Refused, KeyError, TypeError, ValueError, AttributeError):
            self._unreadable += 1

    def begin(self, now: float) -> None:
        """Set the run's start in seconds since 1970; the cluster's own start lies before it."""
        self._began = round(now * SECOND)

    def end(self, now: float) -> None:
        """Set the run's end in seconds since 1970; the last message may be much older."""
        self._last = max(self._last, round(now * SECOND))

    def plan(self, job: str, rounds: int) -> None:
        """Set a job's planned number of rounds. The caller may know it; a job's status may be too large to publish."""
        self._planned[job] = rounds

    def ended(self, job: str) -> bool:
        """Return whether a job has ended."""
        return job in self._uids and _phase(self._jobs[self._uids[job]].outcome) in ENDED

    def online(self, edge: str) -> bool:
        """Return whether an edge is online by the coordinator's last status."""
        found = self._edges.get(edge)
        return found is not None and found.seen_online and found.away_since is None

    def rounds(self) -> int:
        """Return the number of closed rounds of all jobs."""
        return sum(len(each.outcome.rounds) for each in self._jobs.values())

    def accuracy(self) -> tuple[str, float] | None:
        """Return the job whose model was evaluated last, with its accuracy."""
        found = [(each.measured or 0.0, job.outcome.name, each.evaluation.get("accuracy"))
                 for job in self._jobs.values() for each in job.outcome.evaluations[-1:]]  # fmt: skip
        last = max(found, default=None, key=lambda each: each[0])
        return (last[1], last[2]) if last is not None and last[2] is not None else None

    def outcome(self) -> Outcome:
        """Return the outcome so far."""
        end = self._seconds(self._last)
        jobs: dict[str, JobOutcome] = {}
        for job_state in self._jobs.values():
            job = job_state.outcome
            job.rounds.sort(key=lambda each: each.round)
            for each in job.rounds:
                each.asked = job_state.asked.get(each.round)
            job.phase = _phase(job)
            job.participants, job.refused_edges = len(job_state.edges), len(job_state.refused)
            name = job.name if job.name not in jobs else f"{job.name}/{job.uid[:8]}"
            jobs[name] = job
        edges = {}
        for name, edge_state in sorted(self._edges.items()):
            edge = edge_state.outcome
            outages = list(edge.outages)
            if edge_state.away_since is not None and edge_state.away_since < end:
                outages.append((edge_state.away_since, end))
            edges[name] = EdgeOutcome(
                name, edge.bytes_up, edge.bytes_down, edge.asked, edge.counted, edge.refused, edge.late, edge.lost,
                edge.counted_twice, outages,
            )  # fmt: skip
        planned = self._timeline.outages if self._timeline is not None else {}
        return Outcome((self._began or 0) / SECOND, end, jobs, edges, self._messages, self._unreadable, planned)

    # handlers, one for each topic

    def _update(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        edge = self._edge(params["edge"])
        weights = data["weights"]
        edge.outcome.bytes_up += len(recorded.body)
        if weights.get("inline") is None:
            edge.outcome.bytes_up += edge.transferred(weights)
        job_state = self._job(str(data["job_uid"]), params["job"], recorded)
        key = (int(data["round"]), params["edge"])
        if key not in job_state.mentioned and key[0] > 0:
            job_state.waiting.setdefault(key, len(job_state.closed))

    def _aggregation(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        job_state = self._job(str(data["job_uid"]), params["job"], recorded)
        number, counted = int(data["round"]), dict(data["counted"])
        job = job_state.outcome
        self._note_double_counts(job_state, number, counted)
        if number in job_state.closed:  # published again after a crash
            return
        job_state.closed[number] = counted
        job_state.asked_edges.pop(number, None)
        refused, late = data.get("refused", ()), data.get("late", ())
        for name in counted:
            job_state.mentioned[number, name] = None
            job_state.waiting.pop((number, name), None)
            if number:
                self._edge(name).outcome.counted += 1
                job_state.edges[name] = None
        for each in refused:
            self._note_uncounted(job_state, each, "refused")
            job_state.refused[each["edge"]] = None
            why = str(each["reason"])
            if why in job.refusals or len(job.refusals) < REASONS:
                job.refusals[why] = job.refusals.get(why, 0) + 1
        for each in late:
            self._note_uncounted(job_state, each, "late")
            behind = max(0, number - int(each["round"]))
            job.staleness[behind] = job.staleness.get(behind, 0) + 1
        job.duplicates += int(data.get("duplicates", 0))
        if number:
            job.rounds.append(
                RoundOutcome(
                    number, self._seconds(recorded.log_time), float(data.get("duration_seconds", 0.0)),
                    str(data["reason"]), len(counted), len(refused), len(late),
                    num_samples=int(data.get("num_samples", 0)), metrics=data.get("metrics", {}),
                )
            )  # fmt: skip
        self._note_lost(job_state)

    def _evaluation(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        job = self._job(str(data["job_uid"]), params["job"], recorded).outcome
        for each in reversed(job.rounds):
            if each.round == data["round"]:
                each.evaluation = {str(key): float(value) for key, value in data["metrics"].items()}
                each.measured = self._seconds(recorded.log_time)
                return

    def _task(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        edge = self._edge(params["edge"]) if params["edge"] != CLOUD else None
        if edge is not None:
            edge.outcome.bytes_down += len(recorded.body)
        for task in data.get("tasks", ()):
            model, number = task.get("model"), int(task["round"])
            if edge is not None and model is not None and model.get("inline") is None:
                edge.outcome.bytes_down += edge.transferred(model)
            if task["role"] != "aggregate" or not number:
                continue
            job_state = self._job(str(task["job_uid"]), str(task["job"]), recorded)
            if number not in job_state.closed:
                self._note_participants(job_state, number, task["collect"]["participants"])

    def _status(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        status = data.get("status", {})
        if params["resource"] == "edges" and params["name"] != CLOUD:
            self._presence(params["name"], bool(status.get("online")), recorded)
        elif params["resource"] == "jobs" and data.get("kind") == "FederatedTask":
            job = self._job(str(data["metadata"]["uid"]), params["name"], recorded).outcome
            before, job.phase = job.phase, str(status["phase"])
            job.planned = int(data["spec"]["rounds"])
            if job.phase in ENDED and before not in ENDED:
                job.ended = self._seconds(recorded.log_time)

    # helpers of several handlers

    def _presence(self, name: str, online: bool, recorded: Recorded) -> None:
        edge, now = self._edge(name), self._seconds(recorded.log_time)
        if online:
            if edge.away_since is not None:
                edge.outcome.outages.append((edge.away_since, now))
            edge.away_since, edge.seen_online = None, True
        elif edge.away_since is None and edge.seen_online:
            edge.away_since = now

    def _note_uncounted(self, job_state: _JobState, each: Mapping[str, Any], field: str) -> None:
        key = (int(each["round"]), str(each["edge"]))
        edge = self._edge(key[1]).outcome
        setattr(edge, field, getattr(edge, field) + 1)
        job_state.mentioned[key] = None
        job_state.waiting.pop(key, None)

    def _note_double_counts(self, job_state: _JobState, number: int, counted: Mapping[str, str]) -> None:
        """Count violations of two rules: a digest counts in one round only, and an edge once in a round."""
        earlier = job_state.closed.get(number)
        for name, digest in counted.items():
            before = job_state.counted_as.setdefault((name, digest), number)
            if before != number or (earlier is not None and earlier.get(name, digest) != digest):
                job_state.outcome.counted_twice += 1
                self._edge(name).outcome.counted_twice += 1

    def _note_participants(self, job_state: _JobState, number: int, participants: list[str]) -> None:
        before = job_state.asked_edges.setdefault(number, {})
        for name in participants:
            if name not in before:
                before[name] = None
                self._edge(name).outcome.asked += 1
        job_state.asked[number] = len(before)

    def _note_lost(self, job_state: _JobState) -> None:
        """Count updates as lost that have waited for too many rounds."""
        closed = len(job_state.closed)
        for key, since in list(job_state.waiting.items()):
            if closed - since >= SETTLED:
                del job_state.waiting[key]
                job_state.outcome.lost += 1
                self._edge(key[1]).outcome.lost += 1

    def _job(self, uid: str, name: str, recorded: Recorded) -> _JobState:
        if uid not in self._jobs:
            created, planned = self._seconds(recorded.log_time), self._planned.get(name)
            self._jobs[uid] = _JobState(JobOutcome(name, uid, created=created, planned=planned))
            self._uids[name] = uid
        return self._jobs[uid]

    def _edge(self, name: str) -> _EdgeState:
        if name not in self._edges:
            self._edges[name] = _EdgeState(EdgeOutcome(name))
        return self._edges[name]

    def _seconds(self, nanoseconds: int) -> float:
        return (nanoseconds - (self._began or 0)) / SECOND


def _phase(job: JobOutcome) -> str:
    """Return the phase from the job's status, or from its rounds if no status was seen."""
    if job.phase or not job.planned or not job.rounds:
        return job.phase
    last = job.rounds[-1]
    return "Succeeded" if last.round == job.planned and last.evaluation else ""


def outcome_of(messages: Iterable[Recorded], timeline: Timeline | None = None) -> Outcome:
    """Return the outcome of a whole trace."""
    observer = Observer(timeline=timeline)
    for each in messages:
        observer.observe(each)
    return observer.outcome()
