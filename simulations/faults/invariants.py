"""The invariants of a settled run, whatever its faults. Pure: from the evidence to its violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.lanes import HighWaterMarks
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources import NAMED
from heliograph.simulations.faults.evidence import Arrival, Evidence
from heliograph.simulations.faults.keeping_device import NAME, Life, reading
from heliograph.simulations.faults.recount import recount

NOT_ASKED = "was not asked in round"
MOST = 20
"""Largest number of reported violations of one invariant."""


@dataclass(frozen=True)
class Violation:
    """A violation of an invariant."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return self.text


def check(evidence: Evidence) -> list[Violation]:
    """Return all violations; an empty list if all invariants hold."""
    invariants: tuple[Callable[[Evidence], Iterator[str]], ...] = (
        nothing_ended_by_itself,
        every_acknowledged_event_arrived_once,
        a_consumer_sees_the_stream,
        every_job_succeeded,
        every_update_counts_once,
        nobody_honest_is_refused,
        recount,
    )
    found: list[Violation] = []
    for invariant in invariants:
        name = invariant.__name__
        texts = list(invariant(evidence))
        found += [Violation(name, text) for text in texts[:MOST]]
        if len(texts) > MOST:
            found.append(Violation(name, f"… and {len(texts) - MOST} more of {name}"))
    return found


def nothing_ended_by_itself(evidence: Evidence) -> Iterator[str]:
    """Check that no process ended without being killed, and that no wait timed out."""
    yield from evidence.incidents


def every_acknowledged_event_arrived_once(evidence: Evidence) -> Iterator[str]:
    """Check that each device's events are in the cloud once, in order and unchanged, at least all acknowledged ones but
    those that its edge has counted as dropped: a full disk drops the oldest."""
    first, _ = drop_repeats(evidence)
    for edge, lives in evidence.lives.items():
        events = [each.event for each in first if (each.edge, each.device) == (edge, NAME)]
        blocks = [(source, list(block)) for source, block in groupby(events, key=lambda event: event.source)]
        order = [source for source, _ in blocks]
        known = [life.source for life in lives]
        yield from (f"{edge}: events of {source}, an unknown incarnation" for source in order if source not in known)
        if order != [source for source in known if source in order]:
            yield f"{edge}: the events of the device's incarnations are mixed: {order}, expected the order {known}"
            continue
        events_by_source = dict(blocks)
        excused = evidence.dropped.get(edge, 0)
        for life in lives:
            came = events_by_source.get(life.source, [])
            excused -= len(missing := _lost(life, came))
            yield from _life(life, came, missing if excused < 0 else [])


def a_consumer_sees_the_stream(evidence: Evidence) -> Iterator[str]:
    """Check that a consumer saw each message of the stream once and in order, through all faults."""
    there = [each.sequence for each in evidence.telemetry]
    if evidence.followed != there:
        at = next((n for n, (one, two) in enumerate(zip(there, evidence.followed, strict=False)) if one != two),
                  min(len(there), len(evidence.followed)))  # fmt: skip
        yield (f"of {len(there)} messages of telemetry a consumer saw {len(evidence.followed)}; they differ from "
               f"number {at + 1}")  # fmt: skip


def drop_repeats(evidence: Evidence) -> tuple[list[Arrival], int]:
    """Return the telemetry without repeats, by the highest number of each lane, and the number of repeats."""
    marks = HighWaterMarks()
    first = [each for each in evidence.telemetry if marks.is_new(each.headers)]
    return first, len(evidence.telemetry) - len(first)


def _lost(life: Life, events: list[Event]) -> list[int]:
    return sorted(set(range(1, life.acknowledged + 1)) - {event.sequence or 0 for event in events})


def _life(life: Life, events: list[Event], lost: list[int]) -> Iterator[str]:
    numbers = [event.sequence or 0 for event in events]
    if lost:
        yield f"{life.source}: of {life.acknowledged} acknowledged events {len(lost)} are lost: {_some(lost)}"
    if len(set(numbers)) < len(numbers):
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        yield f"{life.source}: events arrived twice: {_some(twice)}"
    if numbers != sorted(numbers):
        at = next(place for place in range(1, len(numbers)) if numbers[place] < numbers[place - 1])
        yield f"{life.source}: out of order: {numbers[at]} came after {numbers[at - 1]}"
    if beyond := [number for number in numbers if number > life.sent]:
        yield f"{life.source}: {life.sent} events were sent, and these arrived too: {_some(beyond)}"
    for event in events:
        if event.data != reading(life.source, event.sequence or 0):
            yield f"{life.source}: event {event.sequence} was sent with different content from {event.data}"


def every_job_succeeded(evidence: Evidence) -> Iterator[str]:
    """Check that all jobs succeeded; a fault that ends must not make a job fail."""
    if not evidence.jobs:
        yield "no job was started"
    for job in evidence.jobs:
        status = job["status"]
        if status["phase"] != "Succeeded":
            messages = "; ".join(each["message"] for each in status.get("conditions", ()) if each.get("message"))
            yield f"job {job['metadata']['name']} is {status['phase']} in round {status['round']}; {messages}"


def every_update_counts_once(evidence: Evidence) -> Iterator[str]:
    """Check that close record, event and status of each round name the same counted update of each edge."""
    records = {(each.job_uid, each.round): each for each in evidence.records}
    sent = {(each.job_uid, each.round, each.edge, each.weights.digest) for each in evidence.updates}
    for (uid, round), record in sorted(records.items()):
        for edge, digest in record.counted.items():
            if (uid, round, edge, digest) not in sent:
                yield f"{_name(record)}: counts {digest[:12]} of {edge}, which never sent it"
    published = {(each.job_uid, each.round) for each in evidence.close_events}
    for key in sorted(records.keys() - published):
        yield f"{_name(records[key])}: has a close record, and no event"
    for each in evidence.close_events:
        if each != records.get((each.job_uid, each.round)):
            yield f"{_name(each)}: an event differs from its close record"
    for job in evidence.jobs:
        name, uid, status = job["metadata"]["name"], job["metadata"]["uid"], job["status"]
        listed = [each["round"] for each in status["rounds"]]
        if status["phase"] == "Succeeded" and listed != list(range(1, job["spec"]["rounds"] + 1)):
            yield f"job {name}: its status lists rounds {listed} of {job['spec']['rounds']}"
        for each in status["rounds"]:
            closed = records.get((uid, each["round"]))
            if closed is None:
                yield f"job {name}, round {each['round']}: is in its status, and has no close record"
            elif _as_listed(closed) != (each["counted"], each["edges"], each["model"], each["numSamples"]):
                yield f"job {name}, round {each['round']}: its status differs from its close record"


def nobody_honest_is_refused(evidence: Evidence) -> Iterator[str]:
    """Check that no update of an edge with samples was refused, but for one that was not asked for any more."""
    for record in evidence.records:
        for each in record.refused:
            if each.edge in evidence.samples and NOT_ASKED not in each.reason:
                yield f"{_name(record)}: an update of {each.edge} was refused: {each.reason}"


def _as_listed(closed: Aggregation) -> tuple[int, list[str], str, int]:
    assert closed.model is not None
    return len(closed.counted), sorted(closed.counted)[:NAMED], closed.model.digest, closed.num_samples


def _name(closed: Aggregation) -> str:
    return f"job {closed.job}, round {closed.round}"


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f", … {numbers[-1]}" if len(numbers) > 10 else "")
