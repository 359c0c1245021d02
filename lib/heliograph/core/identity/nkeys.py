"""Key pairs of NATS (nkeys): Ed25519 keys whose text tells what they are for, with a check sum.

A public key is the base32 of a prefix byte, the 32 bytes of the key, and their CRC-16. A seed has a second prefix byte
and the secret instead (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth).
"""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from typing import Literal

from heliograph.core import ed25519
from heliograph.core.ed25519 import SECRET_BYTES
from heliograph.core.errors import Refused

Kind = Literal["operator", "account", "user", "server"]
PREFIXES: dict[Kind, int] = {"operator": 14 << 3, "account": 0, "user": 20 << 3, "server": 13 << 3}
"""The first byte of a public key, by what it is for: it makes the text begin with O, A, U or N."""
PUBLIC_LENGTH, SEED_LENGTH = 56, 58
"""Characters of a public key, and of a seed."""
_SEED = 18 << 3
"""The first byte of a seed, which makes the text begin with S."""


class KeyPair:
    """A private key with its public one. Neither ``repr`` nor ``str`` shows the seed."""

    def __init__(self, kind: Kind, secret: bytes) -> None:
        self.kind = kind
        self._secret = secret

    @classmethod
    def from_seed(cls, text: str, place: str = "seed") -> KeyPair:
        """Return the key pair of a seed. Raise Refused, without the seed, if it is none; ``place`` names it."""
        raw = _decoded(text, SEED_LENGTH, SECRET_BYTES + 2)
        if raw is not None and raw[0] & 0b11111000 == _SEED:
            prefix = (raw[0] & 0b111) << 5 | raw[1] >> 3
            for kind, known in PREFIXES.items():
                if prefix == known:
                    return cls(kind, raw[2:])
        raise Refused("bad-nkey", topic=place, expected=f"a seed of NATS: {SEED_LENGTH} characters that begin with S",
                      got="something else", hint="Copy it again, or make another.")  # fmt: skip

    @cached_property
    def public(self) -> str:
        """The public key as text."""
        return _encoded(bytes([PREFIXES[self.kind]]) + ed25519.public_of(self._secret))

    @property
    def seed(self) -> str:
        """The secret as text, for a file that nobody else may read."""
        prefix = PREFIXES[self.kind]
        return _encoded(bytes([_SEED | prefix >> 5, (prefix & 0b11111) << 3]) + self._secret)

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes (RFC 8032)."""
        return ed25519.sign(self._secret, data)

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"


def kind_of(public: object) -> Kind | None:
    """Return what a public key is for; None if it is none."""
    if not isinstance(public, str):
        return None
    raw = _decoded(public, PUBLIC_LENGTH, SECRET_BYTES + 1)
    return next((kind for kind, prefix in PREFIXES.items() if raw is not None and raw[0] == prefix), None)


def verified(public: str, signature: bytes, data: bytes) -> bool:
    """Return whether the holder of a public key has signed the data; False for what is no public key."""
    raw = _decoded(public, PUBLIC_LENGTH, SECRET_BYTES + 1)
    return raw is not None and kind_of(public) is not None and ed25519.verified(raw[1:], signature, data)


def _encoded(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _decoded(text: str, characters: int, size: int) -> bytes | None:
    """Return the bytes before the check sum; None unless text and check sum are in the one form that they have."""
    if len(text) != characters:
        return None
    try:
        raw = base64.b32decode(text + "=" * (-characters % 8))
    except (binascii.Error, ValueError):
        return None
    return raw[:-2] if len(raw) == size + 2 and _encoded(raw[:-2]) == text else None
