"""Two agents of one name: one of them gives up, whichever way they meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import Claim
from heliograph.edge_agent.claim import gives_up

claims = st.builds(Claim, edge=st.just("edge-1"), incarnation=st.text("0123456789abcdef", min_size=1, max_size=4),
                   settled=st.booleans())  # fmt: skip


@given(claims, claims)
def test_exactly_one_gives_up(one: Claim, other: Claim) -> None:
    if one.incarnation != other.incarnation:
        assert gives_up(one, other) != gives_up(other, one)


def test_it_is_the_newcomer() -> None:
    newcomer, running = Claim(edge="e", incarnation="a"), Claim(edge="e", incarnation="b", settled=True)
    assert gives_up(newcomer, running)
    assert not gives_up(running, newcomer)
