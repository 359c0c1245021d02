"""Signatures: the standard's own test vector, keys of every kind, and each way in which an envelope can be wrong."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError

from heliograph.core.errors import Refused
from heliograph.core.signing import MOST_BYTES, MOST_SIGNATURES, Envelope, Signer, key_id_of, trusted_keys, verify
from heliograph.core.world import World, seeded

KIND = "application/vnd.in-toto+json"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.made(World())


def _refused(*arguments: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        verify(*arguments)
    assert refused.value.code == "bad-signature"
    return refused.value


def test_the_test_vector_of_dsse() -> None:
    """Its signature is r and s in a row; ours are DER."""
    d = 97358161215184420915383655311931858321456579547487070936769975997791359926199
    signer = Signer(ec.derive_private_key(d, ec.SECP256R1()))
    envelope = signer.sign("http://example.com/HelloWorld", b"hello world")
    r, s = decode_dss_signature(envelope.signatures[0].sig)
    assert (r.to_bytes(32) + s.to_bytes(32)).hex() == (
        "03726ab101ad56c2763b6c6aac8e487275e2a79193a09dc5f859d9f8ef3c4a3b"
        "51eab0c06a369b64a7222537d4887a893dc200ae21060074d57825235b624864"
    )
    tree = envelope.model_dump(mode="json")
    assert tree["payload"] == "aGVsbG8gd29ybGQ=" and tree["payloadType"] == "http://example.com/HelloWorld"


def test_an_envelope_travels_and_is_verified(signer: Signer) -> None:
    sent = signer.sign(KIND, b"\xff\xfe\x00").model_dump_json()
    received = Envelope.model_validate_json(sent)
    assert verify(received, {signer.key_id: signer.public_key}, KIND) == b"\xff\xfe\x00"
    tree = signer.sign(KIND, b"\xff\xfe\x00").model_dump(mode="json") | {"later": 1}
    tree["payload"] = tree["payload"].replace("/", "_").replace("+", "-")
    tree["signatures"][0]["keyid"] = ""  # a hint only
    assert verify(Envelope.model_validate(tree), {"other": Signer.made(World()).public_key, "ours": signer.public_key})


def test_what_no_trusted_key_has_signed_is_refused(signer: Signer) -> None:
    envelope, trusted = signer.sign(KIND, b"weights"), {signer.key_id: signer.public_key}
    (own,) = envelope.signatures
    other = Signer.made(World())
    assert "none is trusted" in str(_refused(envelope, {}))
    assert "Trust that key" in _refused(envelope, {other.key_id: other.public_key}).hint
    changes: list[dict[str, Any]] = [
        {"payload": b"weightz"},
        {"payload_type": KIND + "x"},
        {"signatures": (own.model_copy(update={"sig": own.sig[:-1] + bytes((own.sig[-1] ^ 1,))}),)},
        {"signatures": (own.model_copy(update={"sig": b""}),)},
        {"signatures": (other.sign(KIND, b"weights").signatures[0].model_copy(update={"keyid": signer.key_id}),)},
    ]
    for change in changes:
        assert "were changed" in str(_refused(envelope.model_copy(update=change), trusted)), change
    assert _refused(envelope, trusted, "application/json").field == "payloadType"


def test_one_trusted_signature_of_several_is_enough(signer: Signer) -> None:
    other = Signer.made(World())
    both = (*other.sign(KIND, b"x").signatures, *signer.sign(KIND, b"x").signatures)
    envelope = Envelope(payload=b"x", payload_type=KIND, signatures=both)
    for each in (signer, other):
        assert verify(envelope, {each.key_id: each.public_key}) == b"x"


@pytest.mark.parametrize("change", [
    {"payload": "not base64!"}, {"payload": "A" * (4 * MOST_BYTES)}, {"payload": 3}, {"payloadType": "x" * 300},
    {"signatures": []}, {"signatures": [{"sig": ""}] * (MOST_SIGNATURES + 1)}, {"signatures": [{"sig": "A" * 400}]},
    {"signatures": None}, {"payload": None},
])  # fmt: skip
def test_a_malformed_envelope_is_no_envelope(signer: Signer, change: dict[str, Any]) -> None:
    tree = signer.sign(KIND, b"x").model_dump(mode="json")
    with pytest.raises(ValidationError):
        Envelope.model_validate(tree | change)


def test_too_much_is_not_signed(signer: Signer) -> None:
    with pytest.raises(Refused, match="65536 bytes to sign"):
        signer.sign(KIND, bytes(MOST_BYTES + 1))


def test_keys_are_private_files_and_come_back(tmp_path: Path) -> None:
    file, public = tmp_path / "new" / "key.pem", tmp_path / "public.pem"
    signer = Signer.kept(file, World(new_secret=lambda: seeded("keys").randbytes(32)))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for again in (Signer.of(file), Signer.kept(file, World())):
        assert (again.key_id, again.sign(KIND, b"x")) == (signer.key_id, signer.sign(KIND, b"x"))
    assert [path.name for path in file.parent.iterdir()] == ["key.pem"]
    other = Signer.made(World())
    public.write_text(f"The operator's keys:\n{signer.public_key}\n\n{other.public_key.strip()}")
    assert trusted_keys(public) == {each.key_id: each.public_key for each in (signer, other)}
    assert key_id_of(signer.public_key) == signer.key_id
    for text in (repr(signer), str(_refused(signer.sign(KIND, b"x"), {}))):
        assert "PRIVATE" not in text and signer.private_key().splitlines()[1] not in text


def test_the_file_that_openssl_writes_is_read(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sec1 = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    file = tmp_path / "key.pem"
    file.write_text(f"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}")
    assert Signer.of(file).public_key == Signer(key).public_key


def test_other_files_are_no_keys(tmp_path: Path) -> None:
    p256, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    ed = ed25519.Ed25519PrivateKey.generate()
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    public = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    file = tmp_path / "key.pem"
    for content, got in ((b"", "no key"), (b"\xff" * 100, "no key"), (locked, "with a password"),
                         (p384.private_bytes(*plain), "another kind"), (ed.private_bytes(*plain), "another kind"),
                         (p256.public_key().public_bytes(*public), "no key")):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(Refused, match=got) as refused:
            Signer.of(file)
        assert refused.value.code == "bad-key" and refused.value.topic == str(file)
    good = p256.public_key().public_bytes(*public)
    for content, got in ((b"", "0 of them"), (p256.private_bytes(*plain), "a private key"), (good * 65, "65 of them"),
                         (ed.public_key().public_bytes(*public), "another kind"), (good[:-20], "1 of them"),
                         (good.replace(b"\n", b"\n!", 1), "another kind")):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(Refused, match=got) as refused:
            trusted_keys(file)
        assert refused.value.code == "bad-key"
