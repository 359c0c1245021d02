"""From recorded messages, one after the other, to an outcome: what a simulation runs beside, and what any trace of a
real run gives, too.

A trace of ten thousand edges does not fit into memory: of a message only numbers are kept.
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
"""Closed rounds after an update's arrival within which one of them must tell of it: the open one, or, where it came as
that one closed, the next."""
REASONS = 20
"""Different reasons for refusals that a job keeps."""


@dataclass
class _Following:
    """What is kept of a job while it runs."""

    outcome: JobOutcome
    closed: dict[int, dict[str, str]] = field(default_factory=dict)
    """Round to the digests that it counted, by edge."""
    waiting: dict[tuple[int, str], int] = field(default_factory=dict)
    """Updates of which no round has told yet, by round and edge, to how many rounds had closed as they came."""
    told: dict[tuple[int, str], None] = field(default_factory=dict)
    counted_as: dict[tuple[str, str], int] = field(default_factory=dict)
    """Edge and digest to the round that counted it."""
    asked: dict[int, int] = field(default_factory=dict)
    """Round to how many were asked."""
    asked_edges: dict[int, dict[str, None]] = field(default_factory=dict)
    """The same, by name, while it is open: it may be told again, with others."""
    edges: dict[str, None] = field(default_factory=dict)
    refused: dict[str, None] = field(default_factory=dict)


@dataclass
class _Presence:
    outcome: EdgeOutcome
    away_since: float | None = None
    seen_online: bool = False
    """Bytes that had been sent to everyone when it came."""
    blobs: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """Digests of the last blobs that it has got or sent."""

    def moved(self, weights: Mapping[str, Any]) -> int:
        """The bytes that a blob costs: none where it was there."""
        if weights["digest"] in self.blobs:
            return 0
        self.blobs.append(weights["digest"])
        return int(weights["size"])


class Observer:
    """Takes a run's messages in their order; ``outcome`` tells at any time what has come so far.

    Args:
        began: nanoseconds since 1970 of the run's start; without it the first message's.
        timeline: what was planned, where it was.
    """

    def __init__(self, began: int | None = None, timeline: Timeline | None = None) -> None:
        self._began = began
        self._timeline = timeline
        self._last = began or 0
        self._messages = 0
        self._unreadable = 0
        self._jobs: dict[str, _Following] = {}
        self._uids: dict[str, str] = {}
        self._planned: dict[str, int] = {}
        self._edges: dict[str, _Presence] = {}
        self._take: dict[str, Callable[[dict[str, str], dict[str, Any], Recorded], None]] = {
            MODEL_UPDATE.pattern: self._update, AGGREGATION.pattern: self._aggregation,
            EVALUATION.pattern: self._evaluation, TASK.pattern: self._task, STATUS.pattern: self._status,
        }  # fmt: skip

    def observe(self, recorded: Recorded) -> None:
        """Takes one message. What it does not know, or cannot read, it counts and passes over."""
        if self._began is None:
            self._began = self._last = recorded.log_time
        self._last = max(self._last, recorded.log_time)
        self._messages += 1
        try:
            topic, params = find(recorded.topic)
        except Refused:
            return
        take = self._take.get(topic.pattern)
        if take is None:
            if "edge" in params and (topic.bridged == "up" or (topic is REPORT and params["edge"] != CLOUD)):
                self._edge(params["edge"]).outcome.bytes_up += len(recorded.body)
            return
        if not recorded.body:  # a deleted resource
            return
        try:
            data = decode(recorded.body, recorded.topic).data
            take(params, data, recorded)
        except (Refused, KeyError, TypeError, ValueError, AttributeError):
            self._unreadable += 1

    def begin(self, now: float) -> None:
        """The run starts here, in seconds since 1970: what came before was the cluster's own start."""
        self._began = round(now * SECOND)

    def end(self, now: float) -> None:
        """The run ends here, in seconds since 1970, though nothing may have been said for long."""
        self._last = max(self._last, round(now * SECOND))

    def plan(self, job: str, rounds: int) -> None:
        """How many rounds a job is to have, where the caller knows: a job's status may be too large to be shown."""
        self._planned[job] = rounds

    def ended(self, job: str) -> bool:
        """Whether a job of that name has ended."""
        return job in self._uids and _phase(self._jobs[self._uids[job]].outcome) in ENDED

    def online(self, edge: str) -> bool:
        """Whether the coordinator sees an edge, by the last that it said."""
        found = self._edges.get(edge)
        return found is not None and found.seen_online and found.away_since is None

    def rounds(self) -> int:
        """Closed rounds of all jobs."""
        return sum(len(each.outcome.rounds) for each in self._jobs.values())

    def accuracy(self) -> tuple[str, float] | None:
        """The job whose model was measured last, with its accuracy."""
        found = [(each.measured or 0.0, job.outcome.name, each.evaluation.get("accuracy"))
                 for job in self._jobs.values() for each in job.outcome.evaluations[-1:]]  # fmt: skip
        last = max(found, default=None, key=lambda each: each[0])
        return (last[1], last[2]) if last is not None and last[2] is not None else None

    def outcome(self) -> Outcome:
        """What has come so far, complete where the run is over."""
        end = self._seconds(self._last)
        jobs: dict[str, JobOutcome] = {}
        for following in self._jobs.values():
            job = following.outcome
            job.rounds.sort(key=lambda each: each.round)
            for each in job.rounds:
                each.asked = following.asked.get(each.round)
            job.phase = _phase(job)
            job.participants, job.refused_edges = len(following.edges), len(following.refused)
            name = job.name if job.name not in jobs else f"{job.name}/{job.uid[:8]}"
            jobs[name] = job
        edges = {}
        for name, presence in sorted(self._edges.items()):
            edge = presence.outcome
            outages = list(edge.outages)
            if presence.away_since is not None and presence.away_since < end:
                outages.append((presence.away_since, end))
            edges[name] = EdgeOutcome(
                name, edge.bytes_up, edge.bytes_down, edge.asked, edge.counted, edge.refused, edge.late, edge.lost,
                edge.counted_twice, outages,
            )  # fmt: skip
        planned = self._timeline.outages if self._timeline is not None else {}
        return Outcome((self._began or 0) / SECOND, end, jobs, edges, self._messages, self._unreadable, planned)

    # one topic each

    def _update(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        edge = self._edge(params["edge"])
        weights = data["weights"]
        edge.outcome.bytes_up += len(recorded.body)
        if weights.get("inline") is None:
            edge.outcome.bytes_up += edge.moved(weights)
        following = self._job(str(data["job_uid"]), params["job"], recorded)
        key = (int(data["round"]), params["edge"])
        if key not in following.told and key[0] > 0:
            following.waiting.setdefault(key, len(following.closed))

    def _aggregation(self, params: dict[str, str], data: dict[str, Any], recorded: Recorded) -> None:
        following = self._job(str(data["job_uid"]), params["job"], recorded)
        number, counted = int(data["round"]), dict(data["counted"])
        job = following.outcome
        self._count_twice(following, number, counted)
        if number in following.closed:  # told again, after a crash
            return
        following.closed[number] = counted
        following.asked_edges.pop(number, None)
        refused, late = data.get("refused", ()), data.get("late", ())
        for name in counted:
            following.told[number, name] = None
            following.waiting.pop((number, name), None)
            if number:
                self._edge(name).outcome.counted += 1
                following.edges[name] = None
        for each in refused:
            self._not_counted(following, each, "refused")
            following.refused[each["edge"]] = None
            why = str(each["reason"])
            if why in job.refusals or len(job.refusals) < REASONS:
                job.refusals[why] = job.refusals.get(why, 0) + 1
        for each in late:
            self._not_counted(following, each, "late")
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
        self._settle(following)

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
                edge.outcome.bytes_down += edge.moved(model)
            if task["role"] != "aggregate" or not number:
                continue
            following = self._job(str(task["job_uid"]), str(task["job"]), recorded)
            if number not in following.closed:
                self._asked(following, number, task["collect"]["participants"])

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

    # what they have in common

    def _presence(self, name: str, online: bool, recorded: Recorded) -> None:
        edge, now = self._edge(name), self._seconds(recorded.log_time)
        if online:
            if edge.away_since is not None:
                edge.outcome.outages.append((edge.away_since, now))
            edge.away_since, edge.seen_online = None, True
        elif edge.away_since is None and edge.seen_online:
            edge.away_since = now

    def _not_counted(self, following: _Following, each: Mapping[str, Any], what: str) -> None:
        key = (int(each["round"]), str(each["edge"]))
        edge = self._edge(key[1]).outcome
        setattr(edge, what, getattr(edge, what) + 1)
        following.told[key] = None
        following.waiting.pop(key, None)

    def _count_twice(self, following: _Following, number: int, counted: Mapping[str, str]) -> None:
        """An update counts once: by digest in one round, and of an edge one in a round."""
        earlier = following.closed.get(number)
        for name, digest in counted.items():
            before = following.counted_as.setdefault((name, digest), number)
            if before != number or (earlier is not None and earlier.get(name, digest) != digest):
                following.outcome.counted_twice += 1
                self._edge(name).outcome.counted_twice += 1

    def _asked(self, following: _Following, number: int, participants: list[str]) -> None:
        before = following.asked_edges.setdefault(number, {})
        for name in participants:
            if name not in before:
                before[name] = None
                self._edge(name).outcome.asked += 1
        following.asked[number] = len(before)

    def _settle(self, following: _Following) -> None:
        """What has waited for longer than any update may is lost."""
        closed = len(following.closed)
        for key, since in list(following.waiting.items()):
            if closed - since >= SETTLED:
                del following.waiting[key]
                following.outcome.lost += 1
                self._edge(key[1]).outcome.lost += 1

    def _job(self, uid: str, name: str, recorded: Recorded) -> _Following:
        if uid not in self._jobs:
            created, planned = self._seconds(recorded.log_time), self._planned.get(name)
            self._jobs[uid] = _Following(JobOutcome(name, uid, created=created, planned=planned))
            self._uids[name] = uid
        return self._jobs[uid]

    def _edge(self, name: str) -> _Presence:
        if name not in self._edges:
            self._edges[name] = _Presence(EdgeOutcome(name))
        return self._edges[name]

    def _seconds(self, nanoseconds: int) -> float:
        return (nanoseconds - (self._began or 0)) / SECOND


def _phase(job: JobOutcome) -> str:
    """As its status says; where that was never seen, what its rounds tell."""
    if job.phase or not job.planned or not job.rounds:
        return job.phase
    last = job.rounds[-1]
    return "Succeeded" if last.round == job.planned and last.evaluation else ""


def outcome_of(messages: Iterable[Recorded], timeline: Timeline | None = None) -> Outcome:
    """The outcome of a whole trace."""
    observer = Observer(timeline=timeline)
    for each in messages:
        observer.observe(each)
    return observer.outcome()
