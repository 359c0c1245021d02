"""The circuit breaker and the offload budget, with times chosen by the tests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.inference.breaker import FAILURES, PROBE_AFTER, Breaker
from heliograph.inference.budget import Budget


def test_the_breaker_opens_after_three_failures_and_closes_after_a_successful_probe() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.allows(0.0)
        breaker.failed(0.0)
    assert breaker.open
    assert not breaker.allows(PROBE_AFTER / 2)
    assert breaker.allows(PROBE_AFTER)
    assert not breaker.allows(PROBE_AFTER)  # only a single probe
    breaker.succeeded()
    assert breaker.allows(PROBE_AFTER)
    assert not breaker.open


def test_a_failed_probe_keeps_the_breaker_open() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(0.0)
    assert breaker.allows(1.0)
    breaker.failed(1.2)
    assert not breaker.allows(1.2 + PROBE_AFTER / 2)
    assert breaker.allows(1.2 + PROBE_AFTER)


def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert not breaker.open


@given(st.lists(st.sampled_from(["ask", "fail", "succeed"]), max_size=60), st.floats(0.01, 0.3))
def test_an_open_breaker_lets_only_probes_through(steps: list[str], step: float) -> None:
    breaker, now, opened, through = Breaker(), 0.0, None, 0
    for each in steps:
        now += step
        if each == "ask":
            through += breaker.allows(now) and breaker.open
        elif each == "fail":
            breaker.failed(now)
        else:
            breaker.succeeded()
            through, opened = 0, None
        if breaker.open and opened is None:
            opened = now
        if opened is not None:
            assert through <= (now - opened) / PROBE_AFTER + 1


def test_without_a_budget_every_request_goes() -> None:
    budget = Budget(None, None)
    assert all(budget.try_spend(10**9, 0.0) for _ in range(100))


REQUESTS = st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 5000)), max_size=80)


@given(st.floats(0.5, 50), st.floats(1000, 1e6), REQUESTS)
def test_over_any_time_the_budget_and_one_seconds_worth_are_not_exceeded(
    requests: float, size: float, asked: list[tuple[float, int]]
) -> None:
    budget, now, count, sent = Budget(requests, size), 0.0, 0, 0
    for wait, amount in asked:
        now += wait
        if budget.try_spend(amount, now):
            count += 1
            sent += amount
    assert count <= max(requests, 1) + requests * now + 1e-6
    assert sent <= max(size, max((amount for _, amount in asked), default=0)) + size * now + 5000 + 1e-6


def test_a_request_larger_than_the_capacity_goes_when_the_bucket_is_full() -> None:
    budget = Budget(None, 1000)
    assert budget.try_spend(5000, 0.0)
    assert not budget.try_spend(5000, 1.0)
    assert budget.try_spend(5000, 5.0)
