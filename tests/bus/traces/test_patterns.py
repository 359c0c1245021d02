"""Patterns, compared over every short address; renamed words; times of events."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.traces.event_time import event_time, nanoseconds
from heliograph.bus.traces.patterns import check_pattern, disjoint, intersection
from heliograph.bus.traces.replayed_message import Names
from heliograph.core.errors import Refused
from heliograph.core.names import matches

ADDRESSES = ["/".join(words) for length in (1, 2, 3, 4) for words in product("ab", repeat=length)]
words = st.lists(st.sampled_from(["a", "b", "+"]), max_size=3)
patterns = st.builds(lambda found, rest: "/".join([*found, *rest]) or "+", words, st.sampled_from([[], ["#"]]))


@given(patterns, patterns)
def test_the_intersection_matches_the_common_addresses(one: str, other: str) -> None:
    found = intersection(one, other)
    for address in ADDRESSES:
        expected = matches(one, address) and matches(other, address)
        assert (found is not None and matches(found, address)) == expected, (found, address)


@given(st.lists(patterns, max_size=4))
def test_disjoint_patterns_cover_the_given_ones(given: list[str]) -> None:
    found = disjoint(given)
    for address in ADDRESSES:
        count = sum(matches(each, address) for each in found)
        assert count <= 1, found
        assert count == 1 or not any(matches(each, address) for each in given), found


@pytest.mark.parametrize("wrong", ["", "a//b", "#/a", "a+", "a/b#", "/a", "a\0"])
def test_invalid_patterns_are_refused(wrong: str) -> None:
    with pytest.raises(Refused, match="--topics"):
        check_pattern(wrong)


def test_names_are_parsed_and_applied() -> None:
    names = Names.parse(["job=a:b,job=z", "edge=edge-1:edge-2"])
    assert [names.new("job", old) for old in ("a", "x")] == ["b", "z"]
    assert [names.new("edge", old) for old in ("edge-1", "edge-3")] == ["edge-2", "edge-3"]
    for wrong in ("job", "job=", "job=A", "job=a:b:c", "verb=x", "job=a,job=b"):
        with pytest.raises(Refused, match="--rename"):
            Names.parse([wrong])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-11-21T20:00:00.000001Z", 1_795_291_200_000_001_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", None),
        ("2026-11-21T20:00:00", None),
        ("yesterday", None),
    ],
)
def test_the_time_of_an_event(text: str, expected: int | None) -> None:
    assert nanoseconds(text) == expected
    head = b'{"specversion":"1.0","id":"1","source":"a","type":"t"'
    for body in (head + b',"time":"%s"}' % text.encode(), head + b', "x": 1, "time" : "%s"}' % text.encode()):
        assert event_time(body) == expected


@pytest.mark.parametrize("body", [b"", b"{}", b"\x80", b'{"time":"1970-01-01T00:00:01Z"}', b"\x81specversion"])
def test_bodies_without_a_time_give_none(body: bytes) -> None:
    assert event_time(body) is None
