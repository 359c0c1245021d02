"""NATS's tokens: what is encoded is read back, and nothing that was changed is taken."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import (
    AccountClaims,
    Allowed,
    Claims,
    Export,
    Import,
    OperatorClaims,
    Scope,
    UserClaims,
)
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import MOST_BYTES, decode, encode, signed

OPERATOR, ACCOUNT, OTHER, USER = (
    KeyPair(kind, bytes([number]) * 32)  # type: ignore[arg-type]
    for number, kind in enumerate(("operator", "account", "account", "user"))
)
NOW = 1_800_000_000.0
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
subjects = st.lists(words, max_size=4).map(tuple)
kinds = st.sampled_from(["stream", "service"])
services = st.builds(Export, words, st.just("service"), st.sampled_from(["Singleton", "Stream"]))
exports = services | st.builds(Export, words, st.just("stream"))
times = st.integers(0, 1 << 40)
users = st.builds(
    UserClaims, subject=st.just(USER.public), name=words, expires=times, bearer=st.booleans(),
    allowed=st.builds(Allowed, subjects, subjects, subjects, subjects),
    connection_types=st.lists(st.sampled_from(["MQTT", "STANDARD"]), max_size=2, unique=True).map(tuple), tags=subjects,
) | st.builds(UserClaims, subject=st.just(USER.public), account=st.just(OTHER.public), tags=subjects)  # fmt: skip
scopes = st.builds(Scope, key=st.sampled_from([OTHER.public, ACCOUNT.public]), role=words, bearer=st.booleans(),
                   allowed=st.builds(Allowed, subjects, subjects, subjects, subjects))  # fmt: skip
accounts = st.builds(
    AccountClaims, subject=st.just(ACCOUNT.public), name=words, expires=times, jetstream=st.booleans(),
    exports=st.lists(exports, max_size=3).map(tuple), connections=st.integers(-1, 100),
    leaf_nodes=st.integers(-1, 100),
    imports=st.lists(st.builds(Import, words, kinds, st.just(OTHER.public), st.booleans()), max_size=3).map(tuple),
    revoked=st.dictionaries(words, times, max_size=3), authorized_by=subjects, authorizes_for=subjects,
    scopes=st.lists(scopes, max_size=2, unique_by=lambda scope: scope.key).map(tuple),
    allowed=st.builds(Allowed, subjects, subjects, subjects, subjects),
)  # fmt: skip
operators = st.builds(OperatorClaims, subject=st.just(OPERATOR.public), name=words,
                      system_account=st.just(ACCOUNT.public) | st.just(""))  # fmt: skip
any_claims = users | accounts | operators


def signer_of(claims: Claims) -> KeyPair:
    return ACCOUNT if isinstance(claims, UserClaims) else OPERATOR


@given(any_claims)
def test_claims_are_read_back(claims: Claims) -> None:
    signer = signer_of(claims)
    read = decode(encode(claims, signer, NOW), type(claims))
    assert read == replace(claims, issuer=signer.public, issued_at=int(NOW))


@given(any_claims, st.data())
def test_a_changed_token_is_refused(claims: Claims, data: st.DataObject) -> None:
    token = encode(claims, signer_of(claims), NOW)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.sampled_from("Aaz09-_. =")) + token[place + 1 :]
    if _meaning(changed) != _meaning(token):
        with pytest.raises(Refused):
            decode(changed, type(claims))


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: f"{_base64(raw)}.{_base64(raw)}.{_base64(raw)}"))
def test_no_text_breaks_the_reading(text: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(text, UserClaims, "login.creds")
    assert refused.value.code == "bad-token"
    assert refused.value.topic == "login.creds"


def test_a_token_of_another_kind_is_refused() -> None:
    token = encode(AccountClaims(subject=ACCOUNT.public), OPERATOR, NOW)
    with pytest.raises(Refused, match="claims of an user"):
        decode(token, UserClaims)


@pytest.mark.parametrize("claims", [UserClaims(subject=USER.public), OperatorClaims(subject=OPERATOR.public)])
def test_a_key_signs_only_what_it_may(claims: Claims) -> None:
    with pytest.raises(Refused, match="a key of an"):
        encode(claims, USER, NOW)


def test_a_subject_is_of_the_tokens_kind() -> None:
    with pytest.raises(Refused, match="a public key of kind user"):
        encode(UserClaims(subject=ACCOUNT.public), ACCOUNT, NOW)


def test_an_issuer_of_the_wrong_kind_is_refused() -> None:
    tree = {"iss": USER.public, "sub": USER.public, "nats": {"type": "user", "version": 2}}
    with pytest.raises(Refused, match="iss"):
        decode(signed(tree, USER), UserClaims)


@pytest.mark.parametrize(
    "nats",
    [{"pub": []}, {"pub": {"allow": [1]}}, {"bearer_token": "yes"}, {"sub": {"allow": "x"}}, {"version": 3},
     {"type": []}],
)
def test_values_of_wrong_types_are_refused(nats: dict[str, Any]) -> None:
    tree = {"iss": ACCOUNT.public, "sub": USER.public, "nats": {"type": "user", "version": 2, **nats}}
    with pytest.raises(Refused):
        decode(signed(tree, ACCOUNT), UserClaims)


def test_sizes_are_bounded_before_anything_is_decoded() -> None:
    with pytest.raises(Refused, match="bytes"):
        decode("x" * (MOST_BYTES + 1), UserClaims)
    deep = {"iss": ACCOUNT.public, "sub": USER.public, "nats": json.loads("[" * 40 + "]" * 40)}
    with pytest.raises(Refused):
        decode(signed(deep, ACCOUNT), UserClaims)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _meaning(token: str) -> tuple[bytes, ...]:
    """Return the bytes of a token's parts: base64 has spare bits at its end."""
    try:
        return tuple(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
                     for part in token.split("."))  # fmt: skip
    except ValueError:
        return ()
