"""A chain of audit records shows each change, gap and addition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from heliograph.bus.contract.audit_chain import ChainCheck, Head, hash_of
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.payloads import AuditRecord
from heliograph.bus.contract.topics import AUDIT
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused

TOPIC = AUDIT.at()
SIGNER, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")


def entry(n: int, previous: str, who: str = "alice", signer: Ed25519Signer | None = SIGNER) -> bytes:
    record = AuditRecord(n=n, previous=previous, epoch=1, who=who, what="jobs/delete", decision="accepted")
    event = Event(f"id-{n}", "cloud/coordinator/a", AUDIT.type, record.model_dump(), "", TOPIC)
    return encode(event, signer=signer)


def chain(count: int) -> list[bytes]:
    found: list[bytes] = []
    head = Head()
    for n in range(1, count + 1):
        found.append(entry(n, head.hash))
        head = Head(n, hash_of(found[-1]))
    return found


def checked(bodies: list[bytes], known: Head | None = None, trusted: bool = True) -> ChainCheck:
    found = ChainCheck((SIGNER.public,) if trusted else (), known)
    for body in bodies:
        found.take(body, TOPIC)
    found.end()
    return found


def test_a_chain_holds_and_names_its_head() -> None:
    bodies = chain(5)
    found = checked(bodies)
    assert (found.problems, found.begins, found.head) == ([], 1, Head(5, hash_of(bodies[-1])))
    assert checked(bodies, Head.parse(str(found.head))).problems == []


def test_the_oldest_may_have_been_dropped() -> None:
    found = checked(chain(5)[2:])
    assert (found.problems, found.begins) == ([], 3)


def _insert(bodies: list[bytes]) -> None:
    bodies.insert(2, entry(3, hash_of(bodies[1]), "mallory"))


def _swap(bodies: list[bytes]) -> None:
    bodies[1], bodies[2] = bodies[2], bodies[1]


def _change(bodies: list[bytes]) -> None:
    bodies[2] = entry(3, hash_of(bodies[1]), "mallory")


@pytest.mark.parametrize("tamper", [
    _insert, _swap, _change, lambda bodies: bodies.pop(2), lambda bodies: bodies.append(bodies[-1]),
    lambda bodies: bodies.append(b"x"),
])  # fmt: skip
@pytest.mark.parametrize("trusted", [False, True])
def test_tampering_shows(tamper: Callable[[list[bytes]], object], trusted: bool) -> None:
    bodies = chain(5)
    tamper(bodies)
    assert checked(bodies, trusted=trusted).problems


@given(some.data())
def test_no_byte_of_any_record_but_the_last_can_change(data: some.DataObject) -> None:
    bodies = chain(4)
    place = data.draw(some.integers(0, 2))
    body = bytearray(bodies[place])
    at = data.draw(some.integers(0, len(body) - 1))
    body[at] ^= data.draw(some.integers(1, 255))
    bodies[place] = bytes(body)
    assert checked(bodies, trusted=False).problems


def test_a_chain_made_anew_needs_the_key() -> None:
    bodies, head = [], Head()
    for n in range(1, 4):
        bodies.append(entry(n, head.hash, "mallory", OTHER))
        head = Head(n, hash_of(bodies[-1]))
    assert checked(bodies, trusted=False).problems == []
    assert len(checked(bodies).problems) == 3


def test_a_noted_head_shows_a_missing_end_and_a_chain_made_anew() -> None:
    bodies = chain(5)
    noted = Head(4, hash_of(bodies[3]))
    assert checked(bodies[:3], noted).problems == ["the chain ends at record 3, and record 4 was known"]
    bodies[3] = entry(4, hash_of(bodies[2]), "mallory")
    assert "record 4 has changed since its hash was noted" in checked(bodies[:4], noted).problems


@pytest.mark.parametrize("text", ["", "3", "3:", "x:" + 64 * "0", "-1:" + 64 * "0", "1:" + 63 * "0"])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="expected N:HASH"):
        Head.parse(text)
