"""The order of changes, and where it is no longer known."""

from __future__ import annotations

from heliograph.coordinator.change_log import MOST_GONE, Change, ChangeLog


def test_each_name_is_told_once_in_the_order_of_its_newest_change() -> None:
    log = ChangeLog()
    assert log.since(0) == []
    for name in ("a", "b", "a", "c"):
        log.add(name)
    log.add("b", gone=True)
    assert log.since(0) == [Change(3, "a", False), Change(4, "c", False), Change(5, "b", True)]
    assert log.since(4) == [Change(5, "b", True)]
    assert log.since(5) == []
    assert log.since(6) is None
    log.add("b")
    assert log.since(5) == [Change(6, "b", False)]


def test_a_deletion_that_is_forgotten_ends_what_is_known() -> None:
    log = ChangeLog()
    log.add("kept")
    for number in range(MOST_GONE + 1):
        log.add(f"gone-{number}")
        log.add(f"gone-{number}", gone=True)
    assert log.since(2) is None  # the deletion of gone-0 was number 3
    newer = log.since(3)
    assert newer is not None
    assert len(newer) == MOST_GONE
    assert all(each.gone for each in newer)
