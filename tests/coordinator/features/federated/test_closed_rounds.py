"""Rounds are believed by the key of their job's aggregation worker."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from heliograph.bus.contract import close_record
from heliograph.bus.contract.event import decode, encode
from heliograph.bus.contract.payloads import Aggregation, Generation, Report, WorkerReport
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.contract.topics import AGGREGATION
from heliograph.bus.port import Port, Received
from heliograph.bus.transport import Message
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated.closed_rounds import MOST_HELD, HeldRounds, is_believed, signing_keys
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World

KEY, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")
TOPIC = AGGREGATION.at(job="line")
CLOSED = Aggregation(job="line", job_uid="u", round=1, counted={}, reason="complete")


def received(signer: Ed25519Signer | None) -> Received[Aggregation]:
    port = Port(None, World(), "cloud/aggregation/1")  # type: ignore[arg-type]
    body = encode(port.event(AGGREGATION, CLOSED, TOPIC), signer=signer)
    return Received(Message(TOPIC, body), decode(body), CLOSED, {"job": "line"})


def task() -> FederatedTask:
    spec: dict[str, Any] = {"aggregationWorker": {"model": {"name": "line"}}, "trainingWorkers": [
        {"name": "a", "nodeName": "a", "workerSpec": {"dataset": {"name": "d"}, "trainScriptBootFile": "t.py"}}]}
    found = parse_resource({"kind": "FederatedTask", "metadata": {"name": "line"}, "spec": spec}, "", "jobs")
    assert isinstance(found, FederatedTask)
    return found.model_copy(update={"metadata": found.metadata.model_copy(update={"uid": "u"})})


def view(signs: bool, *workers: tuple[str, str, str]) -> View:
    """Return a view of the cloud's node with workers: role, uid of the job, key."""
    reports = [WorkerReport(worker=f"w-{n}", role=role, job="line", job_uid=uid, round=1, state="running", key=key)
               for n, (role, uid, key) in enumerate(workers)]  # fmt: skip
    report = Report(edge=CLOUD, observed=Generation(), workers=reports, signs_rounds=signs)
    return View({CLOUD: EdgeView(CLOUD, True, report)}, {}, {})


def text(signer: Ed25519Signer) -> str:
    return base64.urlsafe_b64encode(signer.public).decode().rstrip("=")


def test_only_the_jobs_own_aggregation_worker_has_a_say() -> None:
    found = view(True, ("aggregate", "u", text(KEY)), ("aggregate", "other", text(OTHER)), ("evaluate", "u", ""))
    assert signing_keys(task(), found) == frozenset((KEY.public,))
    assert signing_keys(task(), view(True)) == frozenset()
    assert signing_keys(task(), view(False, ("aggregate", "u", text(KEY)))) is None
    assert signing_keys(task(), View({}, {}, {})) is None


@pytest.mark.parametrize("signer", [None, OTHER])
def test_a_round_of_another_is_refused(signer: Ed25519Signer | None) -> None:
    held = HeldRounds()
    with pytest.raises(Refused, match="a signature of the job's aggregation worker"):
        held.believes(received(signer), frozenset((KEY.public,)))
    assert held.believes(received(KEY), frozenset((KEY.public,)))
    assert held.believes(received(signer), None)
    assert list(held.take()) == []


def test_a_signed_round_waits_for_its_key_and_an_unsigned_one_does_not() -> None:
    held = HeldRounds()
    with pytest.raises(Refused, match="got none"):
        held.believes(received(None), frozenset())
    for _ in range(MOST_HELD + 3):
        assert not held.believes(received(KEY), frozenset())
    waiting = list(held.take())
    assert len(waiting) == MOST_HELD
    assert held.believes(waiting[0], frozenset((KEY.public,)))
    assert list(held.take()) == []


def test_records_are_believed_alike() -> None:
    own, forged, plain = (close_record.dump(CLOSED, signer) for signer in (KEY, OTHER, None))
    keys = frozenset((KEY.public,))
    assert [is_believed(each, keys) for each in (own, forged, plain)] == [True, False, False]
    assert [is_believed(each, frozenset()) for each in (own, forged, plain)] == [False] * 3
    assert all(is_believed(each, None) for each in (own, forged, plain))
