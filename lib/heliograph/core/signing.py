"""Sign bytes and verify signatures: P-256 keys, and DSSE envelopes.

The envelope is that of https://github.com/secure-systems-lab/dsse (protocol v1.0.0); the signature is ECDSA with
SHA-256 over its pre-authentication encoding. ``cryptography`` is imported by the first signature: it costs 12 MB, which
an agent without trusted keys does not pay.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints, WithJsonSchema

from heliograph.core.errors import Refused
from heliograph.core.p256_key import normal_pem
from heliograph.core.private_files import make_private, write_first

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

    from heliograph.core.world import World

MOST_BYTES = 64 * 1024
"""Bytes of a signed payload, at most: a statement names files by their digests, and contains none."""
MOST_KEYS = 64
"""Keys in one file of trusted keys, at most."""
MOST_SIGNATURES = 8
"""Signatures of one envelope, at most."""
MOST_SIGNATURE = 256
"""Bytes of one signature, at most; ours have 72."""
_MOST_PEM = 64 * 1024
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the group of P-256."""
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


def _bytes_of(value: Any) -> Any:
    """Decode base64, in either alphabet: DSSE allows both."""
    if not isinstance(value, str):
        return value
    return base64.b64decode(value.translate({45: "+", 95: "/"}), validate=True)


def _text_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


_Payload = Annotated[
    bytes,
    Field(max_length=MOST_BYTES),
    BeforeValidator(_bytes_of),
    PlainSerializer(_text_of, return_type=str),
    WithJsonSchema({"type": "string", "format": "byte", "maxLength": 4 * -(-MOST_BYTES // 3)}),
]
_Signature = Annotated[
    bytes,
    Field(max_length=MOST_SIGNATURE),
    BeforeValidator(_bytes_of),
    PlainSerializer(_text_of, return_type=str),
    WithJsonSchema({"type": "string", "format": "byte", "maxLength": 4 * -(-MOST_SIGNATURE // 3)}),
]


class EnvelopeSignature(BaseModel):
    """One signature of an envelope.

    Attributes:
        keyid: a hint which key has signed: the SHA-256 of the public key's PEM.
        sig: ECDSA signature in DER.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    keyid: Annotated[str, StringConstraints(max_length=128)] = ""
    sig: _Signature


class Envelope(BaseModel):
    """A DSSE envelope: a payload, its type, and who signed both. Its own fields are outside the signature."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, validate_by_name=True, serialize_by_alias=True, defer_build=True
    )

    payload: _Payload
    payload_type: Annotated[str, Field(alias="payloadType"), StringConstraints(max_length=256)]
    signatures: Annotated[tuple[EnvelopeSignature, ...], Field(min_length=1, max_length=MOST_SIGNATURES)]


class Signer:
    """A private key on P-256. Its signatures are deterministic (RFC 6979): the same payload has the same one."""

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_key = _pem_of(key.public_key())
        """The public key as PEM."""
        self.key_id = key_id_of(self.public_key)

    @classmethod
    def of(cls, file: Path) -> Signer:
        """Return the signer of a key file: PEM without a password, as ``openssl ecparam -name prime256v1 -genkey``
        writes it. Raise Refused where the file has no such key."""
        return cls.read(_text(file), str(file))

    @classmethod
    def read(cls, pem: str, place: str) -> Signer:
        """Return the signer of a private key in PEM; ``place`` names it in a refusal, which never shows the key."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem = pem.rpartition("-----END EC PARAMETERS-----")[2]  # openssl writes the curve before the key
        try:
            key = load_pem_private_key(pem.strip().encode(), None)
        except TypeError:
            hint = "Write it without one: openssl pkcs8 -topk8 -nocrypt."
            raise _bad_key(place, "a key with a password", hint) from None
        except (ValueError, UnsupportedAlgorithm):
            raise _bad_key(place, "no key that can be read") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _bad_key(place, "another kind of key")
        return cls(key)

    @classmethod
    def made(cls, world: World) -> Signer:
        """Return the signer of a new key."""
        return cls(new_p256_key(world))

    @classmethod
    def kept(cls, file: Path, world: World) -> Signer:
        """Return the signer of a key file. Where there is none, make one of a new key, for its user alone."""
        if not file.exists():
            if not file.parent.exists():
                make_private(file.parent)
            write_first(file, cls.made(world).private_key(), world.new_id())
        return cls.of(file)

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """Return the signed envelope of a payload. Raise Refused where it is larger than an envelope takes."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        if len(payload) > MOST_BYTES:
            raise Refused("too-large", field="payload", expected=f"at most {MOST_BYTES} bytes to sign",
                          got=f"{len(payload)} bytes")  # fmt: skip
        signature = self._key.sign(_encoding(payload_type, payload), ec.ECDSA(SHA256(), deterministic_signing=True))
        by = EnvelopeSignature(keyid=self.key_id, sig=signature)
        return Envelope(payload=payload, payload_type=payload_type, signatures=(by,))

    def private_key(self) -> str:
        """Return the private key as PEM, for the one place that keeps it."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def __repr__(self) -> str:
        return f"Signer({self.key_id[:12]})"


def new_p256_key(world: World) -> EllipticCurvePrivateKey:
    """Return a new private key, of the world's randomness."""
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = int.from_bytes(world.new_secret() + world.new_secret()) % (_ORDER - 1) + 1
    return ec.derive_private_key(secret, ec.SECP256R1())


def verify(envelope: Envelope, trusted: Mapping[str, str], payload_type: str = "") -> bytes:
    """Return an envelope's payload if a trusted key has signed it.

    Args:
        trusted: PEM of each trusted public key, by its id.
        payload_type: the only type to accept; empty for any.

    Raises:
        Refused: ``bad-signature`` where no trusted key has signed it, or its type is another.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    if payload_type and envelope.payload_type != payload_type:
        raise Refused("bad-signature", field="payloadType", expected=payload_type, got=envelope.payload_type)
    encoded = _encoding(envelope.payload_type, envelope.payload)
    unknown = True
    for each in envelope.signatures:
        for key_id, pem in trusted.items():
            if each.keyid in ("", key_id):  # the id is a hint, outside the signature
                unknown = False
                try:
                    _public_key(pem).verify(each.sig, encoded, ec.ECDSA(SHA256()))
                except InvalidSignature:
                    continue
                return envelope.payload
    ids = ", ".join(each.keyid[:12] or "a key without an id" for each in envelope.signatures)
    expected = "a signature by a trusted key: " + (", ".join(key_id[:12] for key_id in trusted) or "none is trusted")
    if unknown:
        raise Refused("bad-signature", field="signatures", expected=expected, got=f"one by {ids}",
                      hint="Trust that key, or have a trusted one sign.")  # fmt: skip
    raise Refused("bad-signature", field="signatures", expected=expected,
                  got=f"bytes that {ids} did not sign: they or the signature were changed")  # fmt: skip


def trusted_keys(*files: Path) -> dict[str, str]:
    """Return the public keys in PEM files, by id; a file may have several, one below the other.

    Raise Refused where one has none, or something that is no public key on P-256.
    """
    found: dict[str, str] = {}
    for file in files:
        text = _text(file)
        parts = text.split(_BEGIN)[1:]
        if not 0 < len(parts) <= MOST_KEYS or any(_END not in part for part in parts):
            got = "a private key" if "PRIVATE KEY" in text else f"{len(parts)} of them"
            raise Refused("bad-key", topic=str(file), expected=f"public keys in PEM, 1 to {MOST_KEYS}", got=got,
                          hint="Write it by: openssl pkey -in KEY -pubout.")  # fmt: skip
        for part in parts:
            found |= _public(f"{_BEGIN}{part.partition(_END)[0]}{_END}\n", str(file))
    return found


def key_id_of(public_key: str) -> str:
    """Return the id of a public key: the SHA-256 of its PEM, as OpenSSF model signing has it."""
    return hashlib.sha256(public_key.encode()).hexdigest()


def _public(pem: str, place: str) -> dict[str, str]:
    try:
        normal = normal_pem(pem) or _pem_of(_public_key(pem))
    except Refused:
        raise _bad_key(place, "another kind of key, or none", which="public key") from None
    return {key_id_of(normal): normal}


@lru_cache(maxsize=MOST_KEYS)
def _public_key(pem: str) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_key("", "another kind of key, or none", which="public key")
    return key


def _pem_of(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _text(file: Path) -> str:
    with file.open("rb") as source:
        return source.read(_MOST_PEM).decode(errors="replace")


def _bad_key(place: str, got: str, hint: str = "", which: str = "private key") -> Refused:
    return Refused("bad-key", topic=place, expected=f"a {which} on P-256 in PEM", got=got,
                   hint=hint or "Make one by: openssl ecparam -name prime256v1 -genkey -noout.")  # fmt: skip
