"""Public keys on P-256, read without a cryptographic library: as the library reads them, or left to it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.p256_key import BEGIN, END, normal_pem


def _pem(private: int, curve: ec.EllipticCurve | None = None) -> str:
    key = ec.derive_private_key(private, curve or ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.replace(BEGIN, "").replace(END, "").split()))


def _wrapped(der: bytes) -> str:
    return f"{BEGIN}\n{base64.b64encode(der).decode()}\n{END}\n"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2**255))
def test_a_key_has_one_form_however_its_lines_are_broken(private: int) -> None:
    pem = _pem(private)
    assert normal_pem(pem) == pem
    assert normal_pem(_wrapped(_der(pem))) == pem
    assert normal_pem(pem.replace("\n", "\r\n")) == pem


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2**255), st.integers(0, 90), st.integers(1, 255))
def test_a_changed_byte_is_no_key(private: int, place: int, change: int) -> None:
    der = bytearray(_der(_pem(private)))
    der[place] ^= change
    assert normal_pem(_wrapped(bytes(der))) is None


@pytest.mark.parametrize(
    "text",
    ["", "x", BEGIN, f"{BEGIN}{END}", f"{BEGIN}\nAAAA\n{END}", f"{BEGIN}\n***\n{END}", _pem(5) + _pem(5), "x" + _pem(5),
     _pem(7, ec.SECP384R1()), _wrapped(_der(_pem(5)) + b"\0"), _wrapped(_der(_pem(5))[:-1]),
     _wrapped(_der(_pem(5))[:27] + bytes(64)), _wrapped(_der(_pem(5))[:27] + b"\xff" * 64)],
)  # fmt: skip
def test_what_is_no_such_key_is_left_to_the_library(text: str) -> None:
    assert normal_pem(text) is None


def test_trusted_keys_are_read_without_the_library(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_text(_pem(3) + _pem(4))
    program = (
        "import sys; from pathlib import Path; from heliograph.core.signing import trusted_keys;"
        "print(len(trusted_keys(Path(sys.argv[1]))), 'cryptography' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["2", "False"]
