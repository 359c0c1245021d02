"""Filters take what MQTT says, and those of one subscription never overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from heliograph.edge_agent.devices.topic_filters import apart, fewer, takes

LEVEL = st.sampled_from(["a", "b", "", "$SYS", "ü x"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTERS = st.tuples(
    st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4), st.booleans()
).map(lambda made: "/".join([*made[0], *(["#"] if made[1] else [])]))  # fmt: skip


@given(FILTERS, TOPICS)
def test_a_filter_takes_what_another_implementation_says(pattern: str, topic: str) -> None:
    assert takes(pattern, topic) == topic_matches_sub(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic", "taken"),
    [("sport/#", "sport", True), ("#", "$SYS/x", False), ("+/x", "$SYS/x", False), ("$SYS/#", "$SYS/x", True),
     ("+/+", "/finance", True), ("/+", "/finance", True), ("+", "/finance", False), ("sport/+", "sport", False),
     ("sport/+", "sport/", True)],
)  # fmt: skip
def test_the_examples_of_the_specification(pattern: str, topic: str, taken: bool) -> None:
    assert takes(pattern, topic) is taken


@given(st.lists(FILTERS, max_size=6), TOPICS)
def test_each_topic_that_one_of_them_takes_is_taken_exactly_once(patterns: list[str], topic: str) -> None:
    number = sum(takes(each, topic) for each in apart(patterns))
    assert number <= 1
    assert number == 1 or not any(takes(each, topic) for each in patterns)


@given(st.lists(FILTERS, max_size=9), TOPICS)
def test_fewer_filters_take_no_topic_less_and_none_twice(patterns: list[str], topic: str) -> None:
    number = sum(takes(each, topic) for each in fewer(patterns, 2))
    assert number <= 1
    assert number == 1 or not any(takes(each, topic) for each in patterns)


def test_only_where_there_are_many_the_filters_of_one_first_level_become_one() -> None:
    many = ("a/x", "a/+/y", "b/x", "c/#", "$SYS/x", "$SYS/y")
    assert fewer(many, 6) == many
    assert fewer(many, 5) == ("a/#", "b/x", "c/#", "$SYS/#")


def test_filters_that_do_not_overlap_stay_as_they_are() -> None:
    assert apart(["a/+", "b/#", "$SYS/x"]) == ("a/+", "b/#", "$SYS/x")
    assert apart(["a/+/c", "a/b/+"]) == ("a/+/+",)
    assert apart(["a/b", "c", "#"]) == ("#",)
