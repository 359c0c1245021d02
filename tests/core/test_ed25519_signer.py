"""Keys that sign events, in files as OpenSSL writes them."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from heliograph.core import ed25519
from heliograph.core.ed25519_signer import Ed25519Signer, pem_of, public_keys
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer
from heliograph.core.world import World

SIGNER = Ed25519Signer(bytes(range(32)))


def test_a_kept_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "key.pem"
    first = Ed25519Signer.kept(file, World())
    assert Ed25519Signer.kept(file, World()).public == first.public
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["key.pem"]
    assert ed25519.verified(first.public, first.sign(b"x"), b"x")
    assert first.private_key().splitlines()[1] not in repr(first)


def test_public_keys_of_several_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    other = Ed25519Signer(bytes(32))
    one.write_text(SIGNER.public_key + "\n" + pem_of(bytes(31) + b"\x01"))
    two.write_text(other.public_key)
    assert public_keys(one, two) == {SIGNER.public, other.public, bytes(31) + b"\x01"}


@pytest.mark.parametrize("text", ["", "x", SIGNER.private_key(), Signer.made(World()).public_key,
                                  SIGNER.public_key.replace("MC", "!!"), SIGNER.public_key * 65])  # fmt: skip
def test_what_is_no_public_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(Refused, match="public keys for Ed25519 in PEM, 1 to 64"):
        public_keys(file)


@pytest.mark.parametrize("text", ["", SIGNER.public_key, Signer.made(World()).private_key(), SIGNER.private_key() * 2])
def test_what_is_no_private_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(Refused) as refused:
        Ed25519Signer.of(file)
    assert refused.value.code == "bad-key"
    assert not [line for line in text.splitlines()[1:2] if line in str(refused.value)]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="compares with the openssl command")
def test_openssl_writes_and_reads_the_same_files(tmp_path: Path) -> None:
    theirs, ours, public = (tmp_path / name for name in ("theirs.pem", "ours.pem", "public.pem"))
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", theirs], check=True)
    ours.write_text(Ed25519Signer.of(theirs).private_key())
    assert ours.read_text() == theirs.read_text()
    subprocess.run(["openssl", "pkey", "-in", ours, "-pubout", "-out", public], check=True)
    assert public.read_text() == Ed25519Signer.of(theirs).public_key
