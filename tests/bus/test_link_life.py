"""The life of a connection: what is heard, and what is taken. A late answer alone ends nothing."""

from __future__ import annotations

from heliograph.bus.link_life import AnswerWait, LinkLife
from heliograph.bus.link_pace import LinkPace


def paced(rate: float = 1e6, round_trip: float = 0.0) -> LinkPace:
    pace = LinkPace()
    pace.rate = rate
    pace.round_trip = round_trip
    return pace


def test_a_connection_without_a_sign_of_life_is_cut() -> None:
    life = LinkLife(paced(), 2.0, now=100.0)
    assert not life.is_cut(102.0)
    assert life.is_cut(102.1)
    life.heard(102.1)
    assert not life.is_cut(104.0)


def test_one_that_takes_bytes_lives_however_late_the_answer_is() -> None:
    life = LinkLife(paced(), 2.0, now=0.0)
    life.wrote(100_000)
    for second in range(60):
        life.look(100_000 - 1000 * second, now=float(second))
        assert not life.is_cut(second + 1.5)
    assert life.is_cut(70.0)


def test_heartbeats_that_are_taken_are_no_life() -> None:
    life = LinkLife(paced(), 2.0, now=0.0)
    life.wrote(100)
    life.look(0, now=0.5)
    for second in range(1, 4):
        life.look(12, now=float(second))  # a heartbeat waits, and is taken
        life.look(0, now=second + 0.1)
    assert life.is_cut(3.2)


def test_a_long_link_has_longer_silences() -> None:
    life = LinkLife(paced(round_trip=6.0), 2.0, now=0.0)
    assert not life.is_cut(15.0)
    assert life.is_cut(21.0)


def test_the_time_for_an_answer_begins_when_the_request_has_been_taken() -> None:
    life = LinkLife(paced(), 2.0, now=0.0)
    wait = AnswerWait(life, paced(), 5.0, 1000, now=0.0)
    life.wrote(1000)
    for second in range(1, 40):
        life.look(1000 - 25 * second, now=float(second))
        assert wait.due() > second + 4.9
    life.look(0, now=40.0)
    due = wait.due()
    life.wrote(10**6)
    life.look(1000, now=44.0)  # others' bytes, behind it
    assert due == wait.due() < 45.1


def test_an_answer_is_late_though_others_keep_the_connection_alive() -> None:
    life = LinkLife(paced(), 2.0, now=0.0)
    wait = AnswerWait(life, paced(), 0.5, 10, now=0.0)
    life.wrote(10)
    life.look(0, now=0.1)
    life.heard(30.0)
    assert wait.due() < 0.7


def test_while_this_process_does_not_run_nothing_is_silent() -> None:
    life = LinkLife(paced(), 2.0, now=0.0)
    life.stood(5.0, now=6.0)
    assert not life.is_cut(6.9)
    assert life.is_cut(7.1)
    life.stood(100.0, now=8.0)
    assert not life.is_cut(10.0)
    assert life.is_cut(10.1)
