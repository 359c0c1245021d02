"""Ed25519 by the loaded OpenSSL and by ``cryptography``: the vectors of RFC 8032, and the two agree on any input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core import ed25519
from heliograph.core.ed25519 import Cryptography, Library, loaded_openssl

VECTORS = [
    ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
     "55141438e7a100b"),
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
     "00d291612bb0c00"),
]  # fmt: skip
"""Secret, public key, data and signature of RFC 8032, 7.1, tests 1 and 2."""


LIBRARIES: list[Library] = [Cryptography(), *filter(None, [loaded_openssl()])]
"""Python builds with an OpenSSL of their own show none."""


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(("secret", "public", "data", "signature"), VECTORS)
def test_the_vectors_of_the_specification(
    library: Library, secret: str, public: str, data: str, signature: str
) -> None:
    key, message, signed = bytes.fromhex(secret), bytes.fromhex(data), bytes.fromhex(signature)
    assert library.public_of(key).hex() == public
    assert library.sign(key, message) == signed
    assert library.verified(bytes.fromhex(public), signed, message)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300), st.integers(0, 511))
def test_all_agree_and_a_changed_bit_is_noticed(secret: bytes, data: bytes, bit: int) -> None:
    (public,) = {each.public_of(secret) for each in LIBRARIES}
    (signature,) = {each.sign(secret, data) for each in LIBRARIES}
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    for each in LIBRARIES:
        assert each.verified(public, signature, data)
        assert not each.verified(public, bytes(changed), data)
        assert not each.verified(public, signature, data + b"x")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_what_is_no_key_or_signature_verifies_nothing(public: bytes, signature: bytes) -> None:
    assert not ed25519.verified(public, signature, b"data")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_refused(length: int) -> None:
    for using in (ed25519.public_of, lambda secret: ed25519.sign(secret, b"")):
        with pytest.raises(ValueError, match=f"32 bytes, got {length}"):
            using(bytes(length))


def test_without_a_library_that_shows_itself_cryptography_computes(tmp_path: Path) -> None:
    for mapped in ("", "/usr/lib/libc.so.6\n", "/none/libcrypto.so.3\n"):
        (tmp_path / "maps").write_text(f"7f00-7f01 r-xp 0 00:00 1 {mapped}")
        assert loaded_openssl(tmp_path / "maps") is None
    assert loaded_openssl(tmp_path / "none") is None


@pytest.mark.skipif(len(LIBRARIES) < 2, reason="this Python shows no OpenSSL")
def test_a_process_that_signs_does_not_import_cryptography() -> None:
    program = ("import sys; from heliograph.core.ed25519 import *; signed = sign(bytes(32), b'x'); "
               "assert verified(public_of(bytes(32)), signed, b'x'); print('cryptography' in sys.modules)")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
