"""What the issuer keeps of edges that enrol, and which of them a group has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from heliograph.bus.nats.authority import Authority
from heliograph.bus.nats.authority_keys import Origin
from heliograph.coordinator.identity.issuer import Issuer
from heliograph.core.errors import Refused
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.world import World


class Untold(Issuer):
    """One whose broker nobody tells."""

    async def _tell(self, change: Callable[..., list[str]], *what: Any) -> None:
        change(*what)


def issuer(directory: Path) -> Issuer:
    return Untold(directory, cast(Any, None), World(), "heliograph")


def key() -> str:
    return KeyPair("user", World().new_secret()).public


async def test_a_group_is_revoked_in_parts_and_how_its_edges_enrolled_is_kept(tmp_path: Path) -> None:
    Authority(tmp_path, World()).issue(())
    first = issuer(tmp_path)
    for number in range(5):
        await first.enroll_edge(f"hall-{number}", key(), Origin("hall", f"{number}"))
    await first.enroll_edge("hall-9", key(), Origin("hall-9"))
    await first.enroll_user("hall-1", key())  # a user's name is no edge's
    later = issuer(tmp_path)  # that of another coordinator
    assert later.origin("hall-3") is None
    await later.authority()
    assert later.origin("hall-3") == Origin("hall", "3") and later.origin("edge-1") is None
    assert await later.revoke_group("hall", 2) == (["hall-0", "hall-1"], 3)
    assert later.origin("hall-0") is None
    assert await later.revoke_group("hall", 9) == (["hall-2", "hall-3", "hall-4"], 0)
    assert await later.revoke_group("hall", 9) == ([], 0)
    authority = Authority(tmp_path, World())
    assert [*authority.edges.holders] == ["hall-9"] and [*authority.users.holders] == ["hall-1"]


async def test_an_edge_enrols_only_while_it_still_may_once_nothing_else_changes_logins(tmp_path: Path) -> None:
    def withdrawn() -> None:
        raise Refused("bad-invitation", field="name", expected="one that is there", got="hall")

    with pytest.raises(Refused):
        await issuer(tmp_path).enroll_edge("hall-1", key(), Origin("hall"), withdrawn)
    assert not Authority(tmp_path, World()).edges.holders
