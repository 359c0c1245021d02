"""The check of the invariants: a violation of each, planted into the evidence of a sound run, is reported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.event import Event
from heliograph.bus.contract.lanes import headers_of
from heliograph.bus.contract.payloads import Aggregation, ModelUpdate, UncountedUpdate
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import dumps, origin
from heliograph.simulations.faults import invariants
from heliograph.simulations.faults.deterministic_training import Array, initial_model, train
from heliograph.simulations.faults.evidence import Arrival, Evidence
from heliograph.simulations.faults.invariants import check, drop_repeats
from heliograph.simulations.faults.keeping_device import NAME, Life, reading
from heliograph.simulations.faults.recount import arrays_of
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.round_inputs import Input
from heliograph.workers.algorithms import choose

EDGES = ("edge-1", "edge-2", "edge-3")
FIRST, SECOND = "edge-1/meter/a", "edge-1/meter/b"
JOB, UID, ROUNDS = "small-1", "u1", 2


def _arrival(source: str, number: int, n: int) -> Arrival:
    event = Event("id", source, "heliograph.telemetry.v1", reading(source, number), sequence=number)
    return Arrival("edge-1", NAME, event, headers_of("edge-1.j.1", n), sequence=0)


def _ref(content: bytes) -> WeightsRef:
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), inline=content)


def _close(evidence: Evidence, round: int, base: dict[str, Array] | None, edges: tuple[str, ...], place: Path) -> None:
    inputs, counted = {}, {}
    for edge in edges:
        samples = evidence.samples[edge]
        arrays = initial_model(500) if base is None else train(base, samples, round)
        ref = _ref(dumps(arrays, origin(UID, round, edge)))
        update = ModelUpdate(job=JOB, job_uid=UID, round=round, edge=edge, weights=ref, num_samples=len(samples))
        evidence.updates.append(update)
        assert ref.inline is not None
        inputs[edge], counted[edge] = Input(ref.inline, float(len(samples))), ref.digest
    model = aggregate(inputs, choose("FedAvg", {}), place, threads=1, metadata=origin(UID, round)).model
    samples_ = sum(len(evidence.samples[edge]) for edge in edges)
    closed = Aggregation(job=JOB, job_uid=UID, round=round, model=model, counted=counted, num_samples=samples_,
                         reason="complete")  # fmt: skip
    evidence.records.append(closed)
    evidence.close_events += [closed, closed]  # published again after a crash


@pytest.fixture
def sound(tmp_path: Path) -> Evidence:
    """Return the evidence of a sound run in which a device and a job survived a crash."""
    rng = np.random.default_rng(1)
    samples = {edge: rng.normal(size=(30 + n, 16)).astype(np.float32) for n, edge in enumerate(EDGES)}
    evidence = Evidence(samples=samples)
    evidence.lives = {"edge-1": [Life(FIRST, sent=6, acknowledged=3), Life(SECOND, sent=4, acknowledged=4)]}
    sent = [(FIRST, number) for number in range(1, 6)] + [(SECOND, number) for number in range(1, 5)]
    arrivals = [_arrival(source, number, n) for n, (source, number) in enumerate(sent, 1)]
    stored = [*arrivals[:5], *arrivals[2:]]  # some events twice, as after a cut
    evidence.telemetry = [replace(each, sequence=place) for place, each in enumerate(stored, 1)]
    evidence.followed = [each.sequence for each in evidence.telemetry]
    _close(evidence, 0, None, EDGES[:1], tmp_path)
    for round in range(1, ROUNDS + 1):
        model = evidence.records[-1].model
        assert model is not None and model.inline is not None
        _close(evidence, round, arrays_of(model.inline), EDGES, tmp_path)
    rounds = [
        {"round": each.round, "counted": 3, "edges": list(EDGES), "model": each.model.digest, "numSamples": 93}
        for each in evidence.records[1:]
        if each.model is not None
    ]
    status = {"phase": "Succeeded", "round": ROUNDS, "rounds": rounds}
    evidence.jobs = [{"metadata": {"name": JOB, "uid": UID}, "spec": {"rounds": ROUNDS}, "status": status}]
    return evidence


def test_a_sound_run_passes(sound: Evidence) -> None:
    assert check(sound) == []
    assert drop_repeats(sound)[1] == 3


def _lose(evidence: Evidence) -> None:
    evidence.telemetry = [each for each in evidence.telemetry if each.event.sequence != 2]


def _lose_the_last(evidence: Evidence) -> None:
    evidence.telemetry.pop()


def _double(evidence: Evidence) -> None:  # under a new number, so that no consumer notices
    evidence.telemetry.append(_arrival(SECOND, 4, 99))


def _reorder(evidence: Evidence) -> None:
    numbers = [(SECOND, 2), (SECOND, 1), (SECOND, 3), (SECOND, 4)]
    evidence.telemetry[5:] = [_arrival(source, number, 50 + n) for n, (source, number) in enumerate(numbers)]


def _mix(evidence: Evidence) -> None:
    evidence.telemetry.append(_arrival(FIRST, 6, 99))


def _number_backwards(evidence: Evidence) -> None:  # behind a higher number of its lane, so it is dropped as a repeat
    evidence.telemetry[3], evidence.telemetry[4] = evidence.telemetry[4], evidence.telemetry[3]
    del evidence.telemetry[5:8]
    evidence.lives["edge-1"][0] = Life(FIRST, sent=6, acknowledged=5)


def _invent(evidence: Evidence) -> None:
    evidence.telemetry.append(_arrival(SECOND, 5, 99))


def _impersonate(evidence: Evidence) -> None:
    evidence.telemetry.append(_arrival("edge-1/meter/z", 1, 99))


def _change(evidence: Evidence) -> None:
    last = evidence.telemetry[-1]
    evidence.telemetry[-1] = replace(last, event=replace(last.event, data={"number": 4, "value": "changed"}))


def _miss_a_message(evidence: Evidence) -> None:
    del evidence.followed[3]


def _fail_a_job(evidence: Evidence) -> None:
    evidence.jobs[0]["status"]["phase"] = "Failed"


def _end_a_process(evidence: Evidence) -> None:
    evidence.incidents.append("edge-1 ended by itself with exit code 1")


def _forget_a_record(evidence: Evidence) -> None:
    del evidence.records[1]


def _lose_a_close_event(evidence: Evidence) -> None:
    evidence.close_events = [each for each in evidence.close_events if each.round != 2]


def _change_a_close_event(evidence: Evidence) -> None:
    last = evidence.close_events[-1]
    evidence.close_events.append(last.model_copy(update={"counted": {"edge-1": last.counted["edge-1"]}}))


def _miscount_in_status(evidence: Evidence) -> None:
    evidence.jobs[0]["status"]["rounds"][0]["counted"] = 2


def _skip_a_round(evidence: Evidence) -> None:
    del evidence.jobs[0]["status"]["rounds"][0]


def _count_an_unsent_update(evidence: Evidence) -> None:
    del evidence.updates[-1]


def _refuse_an_honest_edge(evidence: Evidence) -> None:
    for edge, reason in (("edge-1", "edge edge-1 was not asked in round 1"), ("rogue-1", "bad"), ("edge-1", "shape")):
        evidence.records[-1].refused.append(UncountedUpdate(edge=edge, round=1, reason=reason))


def _sum_one_twice(evidence: Evidence) -> None:
    _replace_model(evidence, 2, weight={"edge-1": 2.0})


def _sum_another_order(evidence: Evidence) -> None:
    _replace_model(evidence, 2, reverse=True)


def _change_the_samples(evidence: Evidence) -> None:
    evidence.samples["edge-2"] = evidence.samples["edge-2"] + np.float32(0.5)


def _replace_model(
    evidence: Evidence, round: int, *, weight: dict[str, float] | None = None, reverse: bool = False
) -> None:
    """Close a round with a differently summed model, in all evidence."""
    updates = [each for each in evidence.updates if each.round == round]
    names = [each.edge for each in updates]
    inputs = {
        name: Input(each.weights.inline or b"", each.num_samples * (weight or {}).get(each.edge, 1.0))
        for name, each in zip(reversed(names) if reverse else names, updates, strict=True)
    }
    with TemporaryDirectory() as place:
        model = aggregate(inputs, choose("FedAvg", {}), Path(place), threads=1, metadata=origin(UID, round)).model
    assert model is not None
    wrong = evidence.records[round].model_copy(update={"model": model})
    evidence.records[round] = wrong
    evidence.close_events = [wrong if each.round == round else each for each in evidence.close_events]
    evidence.jobs[0]["status"]["rounds"][round - 1]["model"] = model.digest


PLANTED: list[tuple[Callable[[Evidence], Any], str]] = [
    (_lose, "acknowledged events 1 are lost: 2"),
    (_lose_the_last, "acknowledged events 1 are lost: 4"),
    (_double, "arrived twice: 4"),
    (_reorder, "out of order: 1 came after 2"),
    (_mix, "incarnations are mixed"),
    (_number_backwards, "acknowledged events 1 are lost: 4"),
    (_invent, "4 events were sent, and these arrived too: 5"),
    (_impersonate, "an unknown incarnation"),
    (_change, "was sent with different content"),
    (_miss_a_message, "of 12 messages of telemetry a consumer saw 11; they differ from number 4"),
    (_fail_a_job, "job small-1 is Failed"),
    (_end_a_process, "ended by itself"),
    (_forget_a_record, "no close record"),
    (_lose_a_close_event, "has a close record, and no event"),
    (_change_a_close_event, "an event differs from its close record"),
    (_miscount_in_status, "its status differs"),
    (_skip_a_round, "its status lists rounds [2] of 2"),
    (_count_an_unsent_update, "which never sent it"),
    (_refuse_an_honest_edge, "an update of edge-1 was refused: shape"),
    (_sum_one_twice, "and the counted updates give"),
    (_sum_another_order, "and the counted updates give"),
    (_change_the_samples, "is not the result of its data and its base"),
]


@pytest.mark.parametrize(("plant", "text"), PLANTED, ids=[plant.__name__.strip("_") for plant, _ in PLANTED])
def test_a_planted_violation_is_reported(sound: Evidence, plant: Callable[[Evidence], None], text: str) -> None:
    plant(sound)
    violations = check(sound)
    assert any(text in line.text for line in violations), violations


@pytest.mark.parametrize(("counted", "violations"), [(0, 2), (1, 1), (2, 0)])
def test_acknowledged_events_may_be_lost_as_far_as_their_edge_counts_them(
    sound: Evidence, counted: int, violations: int
) -> None:
    _lose(sound)  # one of each life
    sound.dropped = {"edge-1": counted, "edge-2": 9}
    assert len([*invariants.every_acknowledged_event_arrived_once(sound)]) == violations
