"""Credentials: a user's token with the seed of its key, in NATS's own file format (``.creds``).

A file without a seed holds a bearer token, which alone lets its holder in. Both are secrets: the files are 0600.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode
from heliograph.core.private_files import write_private

MOST_BYTES = 64 * 1024
"""Bytes of a file, at most."""
_TOKEN = re.compile(r"-{3,}BEGIN NATS USER JWT-{3,}\s+(\S+)\s+-{3,}END NATS USER JWT-{3,}")
_SEED = re.compile(r"-{3,}BEGIN USER NKEY SEED-{3,}\s+(\S+)\s+-{3,}END USER NKEY SEED-{3,}")
_WARNING = """\
************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.
"""


@dataclass(frozen=True)
class UserCredentials:
    """A login of a broker in operator mode. ``repr`` shows no secret.

    Attributes:
        claims: what the token claims; its issuer has signed it.
        key: the user's key; None where the token is a bearer token.
    """

    token: str = field(repr=False)
    claims: UserClaims
    key: KeyPair | None = None

    @classmethod
    def read(cls, file: Path) -> UserCredentials:
        """Read a file. Raise Refused, which names the file and shows no secret, if it has no credentials."""
        try:
            with file.open("rb") as source:
                raw = source.read(MOST_BYTES + 1)
        except OSError as error:
            raise _refused(file, "a readable file", error.strerror or "an error") from None
        if len(raw) > MOST_BYTES:
            raise _refused(file, f"at most {MOST_BYTES} bytes", "more")
        return cls.parse(raw.decode("utf-8", "replace"), str(file))

    @classmethod
    def parse(cls, text: str, place: str) -> UserCredentials:
        """Return the credentials of a file's text; see ``read``."""
        token = _TOKEN.search(text)
        if token is None:
            raise _refused(place, "a block 'NATS USER JWT', as NATS's tools write it", "none")
        claims = decode(token[1], UserClaims, place)
        seed = _SEED.search(text)
        key = KeyPair.from_seed(seed[1], place) if seed is not None else None
        if key is None and not (claims.bearer or claims.account):  # a scope may make it a bearer token
            raise _refused(place, "a block 'USER NKEY SEED' beside the token", "none")
        if key is not None and key.public != claims.subject:
            raise _refused(place, f"the seed of {claims.subject}, whom the token names", f"that of {key.public}")
        return cls(token[1], claims, key)

    def text(self) -> str:
        """Return the text of a file."""
        blocks = f"-----BEGIN NATS USER JWT-----\n{self.token}\n------END NATS USER JWT------\n"
        if self.key is None:
            return blocks
        return (f"{blocks}\n{_WARNING}\n-----BEGIN USER NKEY SEED-----\n{self.key.seed}\n"
                "------END USER NKEY SEED------\n\n"
                "*************************************************************\n")  # fmt: skip

    def write(self, file: Path) -> None:
        """Write a file that its user alone may read."""
        write_private(file, self.text())

    def answer(self, nonce: str) -> str:
        """Return the signature of a server's nonce, as CONNECT takes it; empty for a bearer token."""
        if self.key is None:
            return ""
        return base64.urlsafe_b64encode(self.key.sign(nonce.encode())).decode().rstrip("=")


def _refused(place: object, expected: str, got: str) -> Refused:
    return Refused("bad-credentials", topic=str(place), expected=expected, got=got,
                   hint="Enrol again, or copy the file again.")  # fmt: skip
