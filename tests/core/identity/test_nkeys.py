"""Key pairs of NATS: their text, their check sum, and that no secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import Refused
from heliograph.core.identity.nkeys import PREFIXES, KeyPair, kind_of, verified

secrets = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from([*PREFIXES])
# a pair that NATS's own tools print in their documentation
DOCUMENTED = ("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
              "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4")  # fmt: skip


def test_the_text_is_that_of_nats_own_tools() -> None:
    assert KeyPair.from_seed(DOCUMENTED[0]).public == DOCUMENTED[1]


@given(kinds, secrets, st.binary(max_size=200))
def test_a_seed_gives_back_its_key_pair(kind: str, secret: bytes, data: bytes) -> None:
    pair = KeyPair(kind, secret)  # type: ignore[arg-type]
    again = KeyPair.from_seed(pair.seed)
    assert (again.kind, again.public, again.seed) == (kind, pair.public, pair.seed)
    assert kind_of(pair.public) == kind
    assert verified(pair.public, again.sign(data), data)
    assert not verified(pair.public, again.sign(data), data + b".")


@given(secrets, st.integers(0, 57), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=1 "))
def test_a_changed_character_is_noticed(secret: bytes, place: int, character: str) -> None:
    pair = KeyPair("user", secret)
    for text, read in ((pair.seed, _is_seed), (pair.public, lambda text: kind_of(text) is not None)):
        changed = text[:place] + character + text[place + 1 :]
        assert read(changed) == (changed == text)


@given(st.text(max_size=70))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert not _is_seed(text)
    assert kind_of(text) is None
    assert not verified(text, bytes(64), b"")


@given(kinds, secrets)
def test_nothing_shows_the_secret(kind: str, secret: bytes) -> None:
    pair = KeyPair(kind, secret)  # type: ignore[arg-type]
    shown = repr(pair) + str(pair)
    with pytest.raises(Refused) as refused:
        KeyPair.from_seed(pair.seed[:-1] + "=")
    shown += str(refused.value) + repr(refused.value.as_dict())
    assert pair.seed[:-1] not in shown
    assert secret.hex() not in shown


def _is_seed(text: str) -> bool:
    try:
        KeyPair.from_seed(text)
    except Refused:
        return False
    return True
