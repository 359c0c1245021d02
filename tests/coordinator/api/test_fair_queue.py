"""The fair queue and its rates: nobody starves, nothing is lost, every bound holds. Against any order of calls."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from heliograph.coordinator.api.fair_queue import FairQueue, Limits, Turn
from heliograph.coordinator.api.token_bucket import Rate, TokenBucket

PLENTY = Rate(1e9, 1e9)


def _limits(requests: Rate = PLENTY, bytes: Rate = PLENTY, in_all: Rate = PLENTY, **more: int) -> Limits:
    return Limits(requests=requests, bytes=bytes, requests_in_all=in_all, **more)


@given(
    st.integers(1, 50), st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=50),
)  # fmt: skip
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    per_second: int, burst: int, calls: list[tuple[float, float]]
) -> None:
    bucket, now, spent = TokenBucket(Rate(per_second, burst), 0.0), 0.0, 0.0
    for pause, amount in calls:
        now += pause
        wait = bucket.ready_in(amount, now)
        if bucket.take(amount, now):
            spent += amount
            assert wait == 0.0
        assert spent <= burst + now * per_second + 1e-6


def test_a_bucket_is_ready_when_it_says_so_also_after_more_was_spent_than_was_left() -> None:
    bucket = TokenBucket(Rate(10, 5), 0.0)
    bucket.spend(25, 0.0)
    wait = bucket.ready_in(1, 0.0)
    assert wait == 2.1
    assert not bucket.take(1, wait - 0.01)
    assert bucket.take(1, wait + 1e-9)


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(["", *"abcdef"]), st.integers(0, 40)),
        st.tuples(st.just("next"), st.just(""), st.just(0)),
        st.tuples(st.just("done"), st.just(""), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 2)),
    ),
    max_size=200,
)


@given(CALLS)
def test_every_accepted_request_is_handled_once_in_its_callers_order_within_the_bounds(
    calls: list[tuple[str, str, int]],
) -> None:
    limits = _limits(Rate(5, 4), Rate(50, 60), Rate(8, 6), running=5, running_of_caller=2, waiting=4,
                     waiting_bytes=80, waiting_bytes_in_all=120, callers=3, heavy=20)  # fmt: skip
    queue, now = FairQueue[tuple[str, int, int]](limits, 0.0), 0.0
    accepted, handled = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    running: list[Turn[tuple[str, int, int]]] = []

    def take() -> bool:
        turn = queue.next(now)
        if turn is None:
            return False
        running.append(turn)
        handled[turn.item[0]].append(turn.item[1])
        assert len(running) <= limits.running
        assert max(Counter(each.caller for each in running).values()) <= limits.running_of_caller
        assert turn.heavy == (turn.item[2] >= limits.heavy)
        assert sum(each.heavy for each in running) <= 1
        return True

    for number, (what, caller, amount) in enumerate(calls):
        if what == "offer" and queue.offer(caller, (caller, number, amount), amount, now):
            accepted[caller].append(number)
        elif what == "next":
            take()
        elif what == "done" and running:
            queue.done(running.pop(0), amount, now)
        elif what == "wait":
            now += amount
    for _ in range(10_000):  # everything that waits is handled in the end
        if not take():
            if running:
                queue.done(running.pop(0), 0, now)
            elif (wait := queue.wait(now)) is not None:
                now += max(wait, 0.001)
            else:
                break
    assert handled == accepted
    assert len(queue) == 0


@given(st.integers(1, 12), st.integers(0, 60), st.booleans())
def test_an_honest_request_is_served_within_one_turn_of_each_other_caller(
    hostile: int, flood: int, heavy: bool
) -> None:
    queue = FairQueue[str](_limits(heavy=100), 0.0)
    for number in range(flood):
        for caller in range(hostile):
            queue.offer(f"hostile-{caller}", f"{number}", 500 if heavy else 1, 0.0)
    queue.offer("honest", "mine", 500 if heavy else 1, 0.0)
    served = []
    while "honest" not in served:
        turn = queue.next(0.0)
        assert turn is not None
        served.append(turn.caller)
        queue.done(turn, 0, 0.0)
    assert max(Counter(served).values()) == 1


def test_a_light_request_does_not_wait_for_a_heavy_one_that_is_read() -> None:
    queue = FairQueue[str](_limits(heavy=100), 0.0)
    for name in ("one", "two"):
        queue.offer(name, "heavy", 100, 0.0)
    queue.offer("three", "light", 1, 0.0)
    first = queue.next(0.0)
    assert first is not None and first.heavy
    second = queue.next(0.0)
    assert second is not None and second.item == "light"
    assert queue.next(0.0) is None
    queue.read(first)  # it still runs, but its document has been read
    third = queue.next(0.0)
    assert third is not None and third.heavy


def test_a_full_queue_refuses_its_own_callers_newest_only() -> None:
    queue = FairQueue[int](_limits(waiting=3, running_of_caller=1), 0.0)
    assert [queue.offer("hostile", number, 1, 0.0) for number in range(5)] == [True, True, True, False, False]
    assert queue.offer("honest", 0, 1, 0.0)


def test_many_names_share_the_queue_of_others_and_do_not_push_out_who_has_one() -> None:
    queue = FairQueue[int](_limits(waiting=2, callers=10), 0.0)
    assert queue.offer("honest", 1, 1, 0.0)
    accepted = sum(queue.offer(f"name-{number}", number, 1, 0.0) for number in range(1000))
    assert accepted == 9 + 2  # nine more callers with a queue of their own, and one queue for the rest
    assert queue.offer("honest", 2, 1, 0.0)


def test_a_caller_that_has_spent_its_rate_waits_and_the_others_do_not() -> None:
    queue = FairQueue[int](_limits(Rate(2, 1)), 0.0)
    for number in range(2):
        queue.offer("busy", number, 1, 0.0)
    first = queue.next(0.0)
    assert first is not None
    queue.done(first, 0, 0.0)
    assert queue.next(0.0) is None
    assert queue.wait(0.0) == 0.5
    queue.offer("other", 7, 1, 0.1)
    other = queue.next(0.1)
    assert other is not None and other.caller == "other"
    again = queue.next(0.5)
    assert again is not None and (again.caller, again.item) == ("busy", 1)


def test_the_bytes_of_answers_are_spent_too() -> None:
    queue = FairQueue[int](_limits(bytes=Rate(10, 10)), 0.0)
    queue.offer("busy", 1, 1, 0.0)
    turn = queue.next(0.0)
    assert turn is not None
    queue.done(turn, 99, 0.0)
    queue.offer("busy", 2, 1, 0.0)
    assert queue.next(0.0) is None
    assert queue.wait(0.0) == 9.1
    assert queue.next(9.2) is not None
