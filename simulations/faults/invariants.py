"""What must hold once a run has settled, whatever befell it. Pure: from the evidence to what it contradicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.lanes import HighWaterMarks
from heliograph.bus.contract.payloads import Aggregation
from heliograph.bus.contract.resources import NAMED
from heliograph.simulations.faults.evidence import Evidence
from heliograph.simulations.faults.keeping_device import Life, reading
from heliograph.simulations.faults.recount import recount

MOST = 20
"""Violations of one invariant that are told."""


@dataclass(frozen=True)
class Violation:
    """What the evidence contradicts, and how."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return self.text


def check(evidence: Evidence) -> list[Violation]:
    """Every violation; empty where all holds."""
    invariants: tuple[Callable[[Evidence], Iterator[str]], ...] = (
        nothing_ended_by_itself,
        every_acknowledged_event_arrived_once,
        a_consumer_sees_the_stream,
        every_job_succeeded,
        every_update_counts_once,
        recount,
    )
    found: list[Violation] = []
    for invariant in invariants:
        name = invariant.__name__
        told = list(invariant(evidence))
        found += [Violation(name, text) for text in told[:MOST]]
        if len(told) > MOST:
            found.append(Violation(name, f"… and {len(told) - MOST} more of {name}"))
    return found


def nothing_ended_by_itself(evidence: Evidence) -> Iterator[str]:
    """No process ended that nobody killed, and nothing that was waited for failed to come."""
    yield from evidence.incidents


def every_acknowledged_event_arrived_once(evidence: Evidence) -> Iterator[str]:
    """Each device's events are in the cloud once, in their order, unchanged, up to the last acknowledged at least."""
    first, _ = pass_over_repeats(evidence)
    for edge, lives in evidence.lives.items():
        events = [event for at, event in first if at == edge]
        blocks = [(source, list(block)) for source, block in groupby(events, key=lambda event: event.source)]
        order = [source for source, _ in blocks]
        known = [life.source for life in lives]
        yield from (f"{edge}: events of {source}, which never was" for source in order if source not in known)
        if order != [source for source in known if source in order]:
            yield f"{edge}: the device's incarnations are mixed: {order}, and they lived as {known}"
            continue
        came = dict(blocks)
        for life in lives:
            yield from _life(life, came.get(life.source, []))


def a_consumer_sees_the_stream(evidence: Evidence) -> Iterator[str]:
    """Who reads along through the faults sees each message of the stream once, in its order."""
    there = [each.sequence for each in evidence.telemetry]
    if evidence.followed != there:
        at = next((n for n, (one, two) in enumerate(zip(there, evidence.followed, strict=False)) if one != two),
                  min(len(there), len(evidence.followed)))  # fmt: skip
        yield f"of {len(there)} messages of telemetry a consumer saw {len(evidence.followed)}; they part at {at + 1}"


def pass_over_repeats(evidence: Evidence) -> tuple[list[tuple[str, Event]], int]:
    """The telemetry as a consumer sees it that keeps the highest number of each lane, and how much it passed over."""
    marks = HighWaterMarks()
    first = [(each.edge, each.event) for each in evidence.telemetry if marks.is_new(each.headers)]
    return first, len(evidence.telemetry) - len(first)


def _life(life: Life, events: list[Event]) -> Iterator[str]:
    numbers = [event.sequence or 0 for event in events]
    if lost := sorted(set(range(1, life.acknowledged + 1)) - set(numbers)):
        yield f"{life.source}: of {life.acknowledged} acknowledged events {len(lost)} are lost: {_some(lost)}"
    if len(set(numbers)) < len(numbers):
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        yield f"{life.source}: events came twice: {_some(twice)}"
    if numbers != sorted(numbers):
        at = next(place for place in range(1, len(numbers)) if numbers[place] < numbers[place - 1])
        yield f"{life.source}: out of order: {numbers[at]} came after {numbers[at - 1]}"
    if beyond := [number for number in numbers if number > life.sent]:
        yield f"{life.source}: {life.sent} events were sent, and these came: {_some(beyond)}"
    for event in events:
        if event.data != reading(life.source, event.sequence or 0):
            yield f"{life.source}: event {event.sequence} was sent with other content than {event.data}"


def every_job_succeeded(evidence: Evidence) -> Iterator[str]:
    """No fault that ends is a reason for a job to fail."""
    if not evidence.jobs:
        yield "no job was begun"
    for job in evidence.jobs:
        status = job["status"]
        if status["phase"] != "Succeeded":
            said = "; ".join(each["message"] for each in status.get("conditions", ()) if each.get("message"))
            yield f"job {job['metadata']['name']} is {status['phase']} in round {status['round']}; {said}"


def every_update_counts_once(evidence: Evidence) -> Iterator[str]:
    """Close record, event and status of each round agree on which one update of each edge was counted."""
    records = {(each.job_uid, each.round): each for each in evidence.records}
    sent = {(each.job_uid, each.round, each.edge, each.weights.digest) for each in evidence.updates}
    for (uid, round), record in sorted(records.items()):
        for edge, digest in record.counted.items():
            if (uid, round, edge, digest) not in sent:
                yield f"{_name(record)}: counts {digest[:12]} of {edge}, which it never sent"
    told = {(each.job_uid, each.round) for each in evidence.told}
    for key in sorted(records.keys() - told):
        yield f"{_name(records[key])}: has a close record, and no event told of it"
    for each in evidence.told:
        if each != records.get((each.job_uid, each.round)):
            yield f"{_name(each)}: an event tells of another outcome than its close record"
    for job in evidence.jobs:
        name, uid, status = job["metadata"]["name"], job["metadata"]["uid"], job["status"]
        listed = [each["round"] for each in status["rounds"]]
        if status["phase"] == "Succeeded" and listed != list(range(1, job["spec"]["rounds"] + 1)):
            yield f"job {name}: its status lists rounds {listed} of {job['spec']['rounds']}"
        for each in status["rounds"]:
            closed = records.get((uid, each["round"]))
            if closed is None:
                yield f"job {name}, round {each['round']}: in its status, and there is no close record"
            elif _as_listed(closed) != (each["counted"], each["edges"], each["model"], each["numSamples"]):
                yield f"job {name}, round {each['round']}: its status says otherwise than its close record"


def _as_listed(closed: Aggregation) -> tuple[int, list[str], str, int]:
    assert closed.model is not None
    return len(closed.counted), sorted(closed.counted)[:NAMED], closed.model.digest, closed.num_samples


def _name(closed: Aggregation) -> str:
    return f"job {closed.job}, round {closed.round}"


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f", … {numbers[-1]}" if len(numbers) > 10 else "")
