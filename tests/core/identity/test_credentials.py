"""Files of credentials, in NATS's own format."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import MOST_BYTES, UserCredentials
from heliograph.core.identity.nkeys import KeyPair, verified
from heliograph.core.identity.tokens import encode

ACCOUNT, USER, OTHER = KeyPair("account", bytes(32)), KeyPair("user", b"u" * 32), KeyPair("user", b"o" * 32)


def made(key: KeyPair | None = USER, bearer: bool = False) -> UserCredentials:
    claims = UserClaims(subject=USER.public, name="alice", bearer=bearer)
    token = encode(claims, ACCOUNT, 1_800_000_000)
    return UserCredentials(token, claims, key)


@pytest.mark.parametrize("one", [made(), made(None, bearer=True)])
def test_a_file_is_read_back(one: UserCredentials, tmp_path: Path) -> None:
    file = tmp_path / "alice.creds"
    one.write(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    read = UserCredentials.read(file)
    assert (read.token, read.claims.name) == (one.token, "alice")
    assert (read.key and read.key.seed) == (one.key and one.key.seed)


def test_line_ends_of_another_system_do_no_harm() -> None:
    assert UserCredentials.parse(made().text().replace("\n", "\r\n"), "x").claims.name == "alice"


def test_a_nonce_is_signed_by_the_users_key() -> None:
    import base64

    answer = made().answer("nonce")
    assert verified(USER.public, base64.urlsafe_b64decode(answer + "=="), b"nonce")
    assert made(None, bearer=True).answer("nonce") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a block 'NATS USER JWT'"),
        ("x" * 100, "a block 'NATS USER JWT'"),
        (made(None).text(), "a block 'USER NKEY SEED'"),
        (made(OTHER).text(), "the seed of U"),
        (made().text().replace("eyJ", "eyK", 1), "its header"),
    ],
)
def test_what_is_no_login_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.creds"
    file.write_text(text)
    with pytest.raises(Refused) as refused:
        UserCredentials.read(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert made().token not in str(refused.value)
    assert USER.seed not in str(refused.value)


def test_a_missing_and_a_large_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="a readable file"):
        UserCredentials.read(tmp_path / "none.creds")
    large = tmp_path / "large.creds"
    large.write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(Refused, match="at most"):
        UserCredentials.read(large)


def test_nothing_shows_the_secrets() -> None:
    one = made()
    assert one.token not in repr(one)
    assert USER.seed not in repr(one)
