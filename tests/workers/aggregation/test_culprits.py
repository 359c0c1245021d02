"""An update that makes the algorithm fail is left out; the others are combined."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused, Unreachable
from heliograph.workers.aggregation.culprits import combine_without_culprits

EDGES = ["edge-1", "edge-2", "edge-3", "edge-4"]


@given(st.sets(st.sampled_from(EDGES)))
async def test_the_rest_is_combined_without_them(bad: set[str]) -> None:
    async def combine(edges: Collection[str]) -> list[str]:
        if bad & set(edges):
            raise ZeroDivisionError("planted")
        return list(edges)

    combined, left_out = await combine_without_culprits(EDGES, combine)
    assert combined == [edge for edge in EDGES if edge not in bad]
    assert left_out.keys() == bad
    assert all("ZeroDivisionError" in why for why in left_out.values())


async def test_where_none_fails_alone_all_are_left_out() -> None:
    async def combine(edges: Collection[str]) -> list[str]:
        if len(edges) > 1:
            raise Refused("bad", field="x", expected="one update")
        return list(edges)

    combined, left_out = await combine_without_culprits(EDGES, combine)
    assert combined == [] and left_out.keys() == set(EDGES)
    assert set(left_out.values()) == {"field x: expected one update"}


@pytest.mark.parametrize("error", [Unreachable("no broker"), OSError("no room")])
async def test_an_error_that_another_attempt_may_mend_is_raised(error: Exception) -> None:
    async def combine(edges: Collection[str]) -> None:
        raise error

    with pytest.raises(type(error)):
        await combine_without_culprits(EDGES, combine)
