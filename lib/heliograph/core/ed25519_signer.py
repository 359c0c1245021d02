"""Ed25519 keys in PEM (RFC 8410): who signs events, and whose events are believed.

Events are signed and checked by every agent, for as long as it runs, so that no reader of a key imports
``cryptography``. Statements about models and packages are signed by P-256 keys: ``core.signing``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core import ed25519
from heliograph.core.errors import Refused
from heliograph.core.private_files import make_private, write_first

if TYPE_CHECKING:
    from heliograph.core.world import World

MOST_KEYS = 64
"""Keys in one file of trusted keys, at most."""
_MOST_PEM = 64 * 1024
_PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC = bytes.fromhex("302a300506032b6570032100")
"""The bytes before a key of this kind in PKCS #8, and in SubjectPublicKeyInfo."""
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----")


class Ed25519Signer:
    """A private key. Its signatures are deterministic: the same bytes have the same one. ``repr`` shows no secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.public = ed25519.public_of(secret)
        """The public key, 32 bytes."""

    @classmethod
    def made(cls, world: World) -> Ed25519Signer:
        """Return the signer of a new key."""
        return cls(world.new_secret())

    @classmethod
    def of(cls, file: Path) -> Ed25519Signer:
        """Return the signer of a key file, as ``openssl genpkey -algorithm ed25519`` writes it. Raise Refused, which
        never shows the key, where the file has no such key."""
        keys = [body[len(_PRIVATE) :] for kind, body in _blocks(file) if kind == "PRIVATE KEY" and _is(body, _PRIVATE)]
        if len(keys) != 1:
            expected = "a private key for Ed25519 in PEM, without a password"
            raise Refused("bad-key", topic=str(file), expected=expected, got="another kind of key, or none",
                          hint="Make one by: openssl genpkey -algorithm ed25519.")  # fmt: skip
        return cls(keys[0])

    @classmethod
    def kept(cls, file: Path, world: World) -> Ed25519Signer:
        """Return the signer of a key file. Where there is none, make one of a new key, for its user alone."""
        if not file.exists():
            if not file.parent.exists():
                make_private(file.parent)
            write_first(file, cls.made(world).private_key(), world.new_id())
        return cls.of(file)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of the data, 64 bytes."""
        return ed25519.sign(self._secret, data)

    def derived_secret(self, purpose: str) -> bytes:
        """Return the secret of another key, always the same for a purpose. It tells nothing about this one."""
        return hmac.digest(self._secret, purpose.encode(), hashlib.sha256)

    @property
    def public_key(self) -> str:
        """The public key as PEM."""
        return pem_of(self.public)

    def private_key(self) -> str:
        """Return the private key as PEM, for the one place that keeps it."""
        return _pem("PRIVATE KEY", _PRIVATE + self._secret)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.public.hex()[:12]})"


def pem_of(public: bytes) -> str:
    """Return a public key as PEM."""
    return _pem("PUBLIC KEY", _PUBLIC + public)


def public_keys(*files: Path) -> frozenset[bytes]:
    """Return the public keys in PEM files; a file may have several, one below the other.

    Raise Refused where one has none, or something that is no public key of this kind.
    """
    found: set[bytes] = set()
    for file in files:
        blocks = _blocks(file)
        if not 0 < len(blocks) <= MOST_KEYS or not all(
            kind == "PUBLIC KEY" and _is(body, _PUBLIC) for kind, body in blocks
        ):
            expected = f"public keys for Ed25519 in PEM, 1 to {MOST_KEYS}"
            raise Refused("bad-key", topic=str(file), expected=expected, got="another kind of key, or none",
                          hint="Write it by: openssl pkey -in KEY -pubout.")  # fmt: skip
        found |= {body[len(_PUBLIC) :] for _, body in blocks}
    return frozenset(found)


def _is(body: bytes, prefix: bytes) -> bool:
    return body.startswith(prefix) and len(body) == len(prefix) + ed25519.PUBLIC_BYTES


def _blocks(file: Path) -> list[tuple[str, bytes]]:
    """Return the blocks of a PEM file: what each is, and its bytes, none for what is no base64."""
    with file.open("rb") as source:
        text = source.read(_MOST_PEM).decode(errors="replace")
    found = []
    for kind, body in _BLOCK.findall(text):
        try:
            found.append((kind, base64.b64decode("".join(body.split()), validate=True)))
        except binascii.Error:
            found.append((kind, b""))
    return found


def _pem(kind: str, body: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.b64encode(body).decode()}\n-----END {kind}-----\n"
