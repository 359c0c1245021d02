"""The token that a person carries from the cloud to a node, or to a user: where the cloud is, how to know it, and a key
that enrols.

The key's private half lies in the token alone: the cloud keeps the public one. Whoever has the token before it expires
can enrol in its name.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Literal

from heliograph.core.errors import Refused
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.names import is_label

MOST_CHARACTERS = 8192
_BEGIN = "heliograph-invitation."
_KINDS = ("edge", "user")
_FIELDS = {"server": str, "authorities": str, "name": str, "expires": int, "seed": str}


@dataclass(frozen=True)
class InvitationToken:
    """An invitation, as its bearer has it. ``repr`` shows no secret.

    Attributes:
        server: URL of the cloud's broker, without a login.
        authorities: certificates in PEM by which the node knows the cloud's broker; empty where the link stays on the
            machine.
        name: the invitation's name.
        expires: seconds since 1970.
        key: signs the enrolment.
        kind: whether an edge enrols by it or a user.
    """

    server: str
    authorities: str
    name: str
    expires: int
    key: KeyPair = field(repr=False)
    kind: Literal["edge", "user"] = "edge"

    def text(self) -> str:
        """Return the token as one word."""
        tree = {"server": self.server, "authorities": self.authorities, "name": self.name, "expires": self.expires,
                "seed": self.key.seed, "kind": self.kind}  # fmt: skip
        packed = json.dumps(tree, separators=(",", ":")).encode()
        return _BEGIN + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> InvitationToken:
        """Read a token. Raise Refused, which shows none of it, if it is none."""
        text = text.strip()
        if len(text) > MOST_CHARACTERS or not text.startswith(_BEGIN):
            raise _refused(f"one word that begins with {_BEGIN}", "another text")
        packed = text.removeprefix(_BEGIN)
        try:
            tree = json.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True))
        except (binascii.Error, ValueError, RecursionError):
            raise _refused("the whole token", "a part of one, or a changed one") from None
        if not isinstance(tree, dict) or any(type(tree.get(name)) is not kind for name, kind in _FIELDS.items()):
            raise _refused(f"a token with {', '.join(_FIELDS)}", "another one")
        kind = tree.get("kind", "edge")
        if kind not in _KINDS:
            raise _refused(f"an invitation for {' or '.join(_KINDS)}", "another one")
        if not is_label(tree["name"]):
            raise _refused("the name of an invitation", "something else")
        key = KeyPair.from_seed(tree["seed"], "invitation")
        return cls(tree["server"], tree["authorities"], tree["name"], tree["expires"], key, kind)


def _refused(expected: str, got: str) -> Refused:
    return Refused("bad-invitation", field="invitation", expected=expected, got=got,
                   hint="Copy the whole token, or ask for another: heliograph edge invite NAME.")  # fmt: skip
