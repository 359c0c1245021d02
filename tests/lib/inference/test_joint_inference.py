"""Joint inference: the edge answers easy samples, the cloud hard ones within the deadline, else the edge degraded."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from heliograph import JointInference
from heliograph.bus.connect import connect
from heliograph.core.errors import Refused, Unreachable
from heliograph.inference import breaker
from heliograph.inference.offload import Offloader
from tests.patience import HANGS

CONFIDENT, UNSURE, DEEP = np.array([0.1, 0.9]), np.array([0.5, 0.5]), np.array([0.8, 0.2])


def shallow(batch: Any) -> list[Any]:
    """Return confident scores for samples that begin with 0."""
    return [UNSURE if x.flat[0] else CONFIDENT for x in batch]


def deep(batch: Any) -> list[Any]:
    return [DEEP for _ in batch]


EASY, HARD = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)


def test_the_edge_answers_easy_samples() -> None:
    with JointInference("digits", edge=shallow, cloud=deep) as service:
        answer = service.infer(EASY)
    assert (answer.result, answer.by, answer.degraded) == (1, "edge", False)
    assert answer.scores is CONFIDENT
    assert service.counts.by_edge == 1
    assert service.counts.hard == 0


def test_the_cloud_answers_hard_samples() -> None:
    with JointInference("digits", edge=shallow, cloud=deep) as service:
        answer = service.infer(HARD, deadline=5)
    assert (answer.result, answer.by, answer.degraded) == (0, "cloud", False)
    counts = service.counts
    assert (counts.by_edge, counts.by_cloud, counts.hard, counts.degraded, counts.errors) == (0, 1, 1, 0, 0)
    assert (counts.compared, counts.agreed) == (1, 1)
    assert counts.bytes_offloaded > HARD.nbytes


async def test_ainfer_answers_in_an_event_loop() -> None:
    with JointInference("digits", edge=shallow, cloud=deep) as service:
        answers = await asyncio.gather(*(service.ainfer(x, deadline=5) for x in (EASY, HARD, HARD)))
    assert [each.by for each in answers] == ["edge", "cloud", "cloud"]


def test_hooks_make_the_edges_input_and_the_result() -> None:
    seen = []

    def model(batch: Any) -> list[Any]:
        seen.append(batch.shape)
        return [CONFIDENT]

    service = JointInference(
        "digits", edge=model, before=lambda x: x[::2, ::2], after=lambda scores: f"class {scores.argmax()}"
    )
    assert service.infer(np.ones((4, 4))).result == "class 1"
    assert seen == [(1, 2, 2)]


def test_only_what_the_redact_hook_makes_leaves_the_node() -> None:
    sent: list[Any] = []

    def cloud(batch: Any) -> list[Any]:
        sent.extend(batch)
        return [DEEP for _ in batch]

    with JointInference("digits", edge=shallow, cloud=cloud, redact=lambda x: x * 7) as service:
        assert service.infer(HARD, deadline=5).by == "cloud"
    assert [each.flat[0] for each in sent] == [7]


@pytest.mark.parametrize("redact", [lambda x: None, lambda x: x["face"]], ids=["withholds", "fails"])
def test_a_sample_that_is_not_redacted_stays(redact: Any) -> None:
    def cloud(batch: Any) -> Any:
        raise AssertionError("it has left")

    with JointInference("digits", edge=shallow, cloud=cloud, redact=redact) as service:
        answer = service.infer(HARD, deadline=5)
    assert (answer.by, answer.degraded) == ("edge", True)
    with JointInference("digits", edge=shallow, cloud=cloud, redact=redact, fallback="error") as service:
        with pytest.raises(Unreachable, match="redact hook"):
            service.infer(HARD, deadline=5)


def test_without_a_cloud_the_edge_gives_degraded_answers_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    ask = Offloader.ask

    async def recorded(offloader: Offloader, body: bytes, seconds: float) -> Any:
        waits.append(seconds)
        return await ask(offloader, body, seconds)

    monkeypatch.setattr(Offloader, "ask", recorded)
    monkeypatch.setattr(breaker, "PROBE_AFTER", HANGS)
    with JointInference("digits", edge=shallow, node="mqtt://127.0.0.1:1", deadline=0.05) as service:
        answers = [service.infer(HARD) for _ in range(20)]
    assert all((each.by, each.degraded, each.result) == ("edge", True, 0) for each in answers)
    assert all(0 < each < 0.051 for each in waits)
    assert len(waits) == 3  # the breaker is open by now, and the edge answers at once
    assert (service.counts.degraded, service.counts.hard) == (20, 20)


async def test_concurrent_calls_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counting(*words: Any, **more: Any) -> Any:
        made.append(words)
        return connect(*words, **more)

    async def unanswered(offloader: Offloader, body: bytes, seconds: float) -> Any:
        raise Unreachable("nobody answers")

    monkeypatch.setattr("heliograph.bus.connect.connect", counting)
    monkeypatch.setattr(Offloader, "ask", unanswered)
    with JointInference("digits", edge=shallow, node="mqtt://127.0.0.1:1", deadline=HANGS) as service:
        await asyncio.gather(*(service.ainfer(HARD) for _ in range(3)))
    assert len(made) == 1


def test_the_fallback_error_gives_the_reason() -> None:
    with JointInference("digits", edge=shallow, node="mqtt://127.0.0.1:1", deadline=0.5, fallback="error") as service:
        with pytest.raises(Unreachable, match=r"service digits: .*did not answer"):
            service.infer(HARD)
        assert service.infer(EASY).by == "edge"
    assert service.counts.errors == 1


def test_a_cloud_model_that_fails_opens_the_breaker_within_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PROBE_AFTER", HANGS)
    asked = 0

    def broken(batch: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        raise RuntimeError("no memory")

    with JointInference("digits", edge=shallow, cloud=broken) as service:
        assert all(service.infer(HARD, deadline=5).degraded for _ in range(50))
    assert asked == 3


def test_requests_beyond_the_budget_are_not_sent() -> None:
    with JointInference("digits", edge=shallow, cloud=deep, requests_per_second=2) as service:
        answers = [service.infer(HARD, deadline=5) for _ in range(10)]
    assert [each.by for each in answers[:2]] == ["cloud", "cloud"]
    assert sum(each.by == "cloud" for each in answers) <= 3
    assert all(each.degraded for each in answers if each.by == "edge")


@pytest.mark.parametrize("deadline", [0, -1.0])
def test_a_deadline_must_be_above_zero(deadline: float) -> None:
    with pytest.raises(Refused, match="field deadline: expected seconds, more than 0"):
        JointInference("digits", edge=shallow).infer(EASY, deadline=deadline)


def test_a_rule_is_chosen_by_name_with_its_parameters() -> None:
    assert JointInference("digits", edge=shallow, rule="never").infer(HARD).by == "edge"
    assert JointInference("digits", edge=shallow, rule="threshold", value=0.4).infer(HARD).by == "edge"
    with JointInference("digits", edge=shallow, rule="always", cloud=deep) as service:
        assert service.infer(EASY, deadline=5).by == "cloud"
    with pytest.raises(Refused, match="threshold"):
        JointInference("digits", edge=shallow, rule="treshold")
    with pytest.raises(Refused):
        JointInference("digits", edge=shallow, rule="threshold", limit=1)


def test_an_object_that_is_no_model_is_refused() -> None:
    with pytest.raises(Refused, match="a function of a batch"):
        JointInference("digits", edge=3)


def test_serve_is_refused_outside_a_worker() -> None:
    with pytest.raises(Refused, match="JointInferenceService's edgeWorker"):
        JointInference("digits", edge=shallow).serve()


def test_errors_of_the_model_propagate() -> None:
    def broken(batch: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        JointInference("digits", edge=broken).infer(EASY)
