"""Back-off: ceilings double up to the last one, pauses are drawn below them, and clients do not come at one moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.backoff import Backoff
from heliograph.core.world import seeded


def test_ceilings_double_up_to_the_longest_and_begin_again_after_a_reset() -> None:
    backoff = Backoff(lambda: 1.0, 0.1, 1.0)
    assert [round(backoff.next(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next() == 0.1


@given(st.floats(0, 1), st.integers(0, 12), st.floats(0, 30))
def test_a_pause_lies_between_nothing_and_its_ceiling_and_is_never_shorter_than_asked(
    drawn: float, failures: int, least: float
) -> None:
    backoff = Backoff(lambda: drawn, 0.1, 5.0)
    for _ in range(failures):
        backoff.next()
    assert least <= backoff.next(least) <= max(least, min(0.1 * 2**failures, 5.0))


def test_a_thousand_clients_that_lose_their_broker_at_one_moment_do_not_come_back_at_one() -> None:
    times = []
    for client in range(1000):
        backoff, at = Backoff(seeded(client).random, 0.1, 5.0), 0.0
        for _ in range(12):
            at += backoff.next()
            times.append(at)
    # 20 s after the loss each client tries some 0.4 times a second: a tenth of a second has 40 attempts, not 1,000
    late = [at for at in times if 10.0 <= at < 15.0]
    busiest = max(sum(1 for at in late if begin <= at * 10 < begin + 1) for begin in range(100, 150))
    assert 500 < len(late) < 3000
    assert busiest < 100
