"""Tokens of invitations: read back, and refused without a word of the secret if they are changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.core.identity.invitation_token import MOST_CHARACTERS, InvitationToken
from heliograph.core.identity.nkeys import KeyPair

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"
TOKEN = InvitationToken("tls://cloud.example:4222", CERTIFICATE, "edge-7", 1_800_000_900, KeyPair("user", b"i" * 32))


def test_a_token_is_one_word_that_is_read_back() -> None:
    text = TOKEN.text()
    assert len(text.split()) == 1 and len(text) < 400
    read = InvitationToken.parse(f" {text}\n")
    assert (read.server, read.name, read.expires) == (TOKEN.server, "edge-7", 1_800_000_900)
    assert read.authorities == TOKEN.authorities
    assert read.key.public == TOKEN.key.public
    assert TOKEN.key.seed not in repr(read)


@given(st.integers(0, len(TOKEN.text()) - 1), st.characters())
def test_a_changed_token_is_refused_or_has_another_meaning_but_never_an_error(place: int, new: str) -> None:
    text = TOKEN.text()
    changed = text[:place] + new + text[place + 1 :]
    try:
        InvitationToken.parse(changed)
    except Refused as refused:
        assert refused.code in ("bad-invitation", "bad-nkey")
        assert TOKEN.key.seed[4:20] not in str(refused)


@pytest.mark.parametrize("text", ["", "x", "heliograph-invitation.", "heliograph-invitation.e30", TOKEN.text()[:-9],
                                  "heliograph-invitation." + "A" * MOST_CHARACTERS])  # fmt: skip
def test_what_is_no_token_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(Refused, match="heliograph edge invite NAME") as refused:
        InvitationToken.parse(text)
    assert refused.value.code == "bad-invitation"
