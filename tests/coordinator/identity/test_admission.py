"""Who may enrol, and whose login is renewed: the key decides, and time, count and name."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliograph.bus.contract.enrolment_requests import Enroll, Renew, edge_of_node, enrolment_bytes, renewal_bytes
from heliograph.bus.contract.permissions import agent_of
from heliograph.bus.contract.resources.base import Metadata
from heliograph.bus.contract.resources.invitation import Invitation, InvitationSpec
from heliograph.coordinator.identity.admission import CLOCKS_DIFFER, admit, renewing
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import encode
from heliograph.core.world import rfc3339

NOW = 1_800_000_000
INVITED, EDGE, OTHER = (KeyPair("user", each * 32) for each in (b"i", b"e", b"o"))
ACCOUNT, FOREIGN = KeyPair("account", b"a" * 32), KeyPair("account", b"f" * 32)


def invitation(name: str = "edge-7", nodes: int = 1) -> Invitation:
    made = Metadata(name=name, creation_timestamp=rfc3339(NOW))
    return Invitation(metadata=made, spec=InvitationSpec(key=INVITED.public, nodes=nodes))


def asks(
    edge: str = "edge-7", name: str = "edge-7", key: KeyPair = EDGE, by: KeyPair = INVITED, at: int = NOW,
    node: str = "",
) -> Enroll:  # fmt: skip
    return Enroll(name=name, edge=edge, key=key.public, at=at, node=node,
                  signature=signed(by, enrolment_bytes(name, edge, key.public, at, node)))  # fmt: skip


def renews(token: str, by: KeyPair = EDGE, at: int = NOW) -> Renew:
    return Renew(token=token, at=at, signature=signed(by, renewal_bytes(token, at)))


def signed(by: KeyPair, data: bytes) -> str:
    return base64.urlsafe_b64encode(by.sign(data)).decode().rstrip("=")


@dataclass(frozen=True)
class Enrolled:
    holders: Mapping[str, str]

    def issuer_of(self, name: str) -> str:
        return ACCOUNT.public if name == "edge-7" else ""


def login(key: KeyPair = EDGE, by: KeyPair = ACCOUNT, expires: int = NOW - 1) -> str:
    return encode(UserClaims(subject=key.public, name="agent-edge-7", expires=expires), by, NOW - 100)


def test_a_node_enrols_once_and_may_ask_again() -> None:
    after = admit(invitation(), asks(), {}, (), NOW)
    assert after.status.enrolled["edge-7"].key == EDGE.public
    assert admit(after, asks(at=NOW + 1), {"edge-7": EDGE.public}, (), NOW + 1) is after


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (asks(by=OTHER), "signature"),
        (asks().model_copy(update={"key": OTHER.public}), "signature"),
        (asks().model_copy(update={"edge": "edge-8"}), "signature"),
        (asks().model_copy(update={"at": NOW + 1}), "signature"),
        (asks(edge="edge-8"), "edge"),
        (asks(at=NOW - CLOCKS_DIFFER - 1), "at"),
        (asks(at=NOW + CLOCKS_DIFFER + 1), "at"),
    ],
)
def test_another_key_name_or_time_is_refused(asked: Enroll, field: str) -> None:
    with pytest.raises(Refused) as refused:
        admit(invitation(), asked, {}, (), NOW)
    assert refused.value.field == field


def test_an_edge_that_names_its_node_has_the_name_that_is_made_of_it() -> None:
    group, node = invitation("hall", 9), "Edge-7.hall.example"
    edge = edge_of_node("hall", node)
    assert edge in admit(group, asks(edge, "hall", node=node), {}, (), NOW).status.enrolled
    assert "hall-edge-7" in admit(group, asks("hall-edge-7", "hall", node="edge-7"), {}, (), NOW).status.enrolled
    for name, claimed in (("hall-edge-7", node), (edge, "edge-7"), ("hall-x", "y")):
        with pytest.raises(Refused, match="which is made of node"):
            admit(group, asks(name, "hall", node=claimed), {}, (), NOW)
    with pytest.raises(Refused) as refused:  # whoever passes it on adds no node, and takes none away
        admit(group, asks(edge, "hall").model_copy(update={"node": node}), {}, (), NOW)
    assert refused.value.field == "signature"
    for bad in ("a b", "a\nb", "-a", "a" * 254, "ü"):
        with pytest.raises(ValidationError):
            asks(edge, "hall", node=bad)


def test_an_invitation_that_expired_or_is_used_up_is_refused() -> None:
    with pytest.raises(Refused, match="expired at"):
        admit(invitation(), asks(at=NOW + 900), {}, (), NOW + 900)
    used = admit(invitation(), asks(), {}, (), NOW)
    with pytest.raises(Refused, match="used up"):
        admit(used, asks(key=OTHER), {}, {EDGE.public}, NOW)  # by a node whose first key was revoked


def test_the_name_of_an_enrolled_edge_is_not_taken_over() -> None:
    with pytest.raises(Refused, match="heliograph edge revoke edge-7"):
        admit(invitation(), asks(), {"edge-7": OTHER.public}, (), NOW)


def test_of_two_nodes_that_ask_for_one_name_at_once_the_first_has_it() -> None:
    """The second finds the first in the invitation; the authority did not know it yet when it was asked."""
    group = admit(invitation("hall", 3), asks("hall-1", "hall"), {}, (), NOW)
    with pytest.raises(Refused) as refused:
        admit(group, asks("hall-1", "hall", OTHER), {}, (), NOW)
    assert refused.value.code == "exists"
    again = admit(group, asks("hall-1", "hall", OTHER), {}, {EDGE.public}, NOW)  # revoked meanwhile
    assert again.status.enrolled["hall-1"].key == OTHER.public


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 6))
def test_a_group_enrols_as_many_nodes_as_it_says(numbers: list[int], nodes: int) -> None:
    group, known = invitation("hall", nodes + 1), dict[str, str]()
    for number in numbers:
        key = KeyPair("user", bytes([number + 1]) * 32)
        edge = f"hall-{number}"
        try:
            group = admit(group, asks(edge, "hall", key), known, (), NOW)
        except Refused:
            assert edge not in known and len(known) == nodes + 1
        else:
            known[edge] = key.public
    assert {edge: node.key for edge, node in group.status.enrolled.items()} == known
    for edge in ("hall", "hal-1", "other-1"):
        with pytest.raises(Refused):
            admit(group, asks(edge, "hall", OTHER), known, (), NOW)


def test_a_login_is_renewed_by_its_own_key_even_after_it_expired() -> None:
    known = {"edge-7": EDGE.public}
    assert renewing(renews(login()), agent_of, Enrolled(known), NOW) == "edge-7"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (renews(login(by=FOREIGN)), "bad-token"),
        (renews(login(), by=OTHER), "bad-token"),
        (renews(login()).model_copy(update={"at": NOW + 1}), "bad-token"),
        (renews(login()[:-4] + "AAAA"), "bad-token"),
        (renews(login(), at=NOW - 1000), "clock"),
        (renews(login(OTHER), by=OTHER), "revoked"),
    ],
)
def test_no_other_login_is_renewed(asked: Renew, code: str) -> None:
    with pytest.raises(Refused) as refused:
        renewing(asked, agent_of, Enrolled({"edge-7": EDGE.public}), NOW)
    assert refused.value.code == code


def test_a_key_that_was_revoked_enrols_no_more() -> None:
    used = admit(invitation(), asks(), {}, (), NOW)
    for each in (used, invitation()):
        with pytest.raises(Refused) as refused:
            admit(each, asks(), {}, {EDGE.public}, NOW)
        assert refused.value.code == "revoked"
