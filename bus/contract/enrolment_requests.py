"""Bodies of the requests by which a node gets its login, keeps it, and loses it. The key that signs proves who asks."""

import hashlib
from typing import Annotated

from pydantic import Field, StringConstraints

from heliograph.bus.contract.request_bodies import Named, RequestBody
from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.invitation import UserKey
from heliograph.core.names import Label

Signature = Annotated[str, StringConstraints(pattern=r"^[-_A-Za-z0-9]{86}$")]
"""Ed25519, 64 bytes in base64url without padding."""
Token = Annotated[str, StringConstraints(max_length=16_384, pattern=r"^[-_.A-Za-z0-9]+$")]
Instant = Annotated[int, Field(ge=0, le=1 << 40)]
"""Seconds since 1970."""


class Enroll(Named):
    """A node asks for its login; ``name`` is the invitation's.

    Attributes:
        edge: name that the node wants.
        key: public key that the node has made; the private one never leaves it.
        at: when it was signed.
        signature: of ``enrolment_bytes``, by the invitation's key.
    """

    changes = True

    edge: Label
    key: UserKey
    at: Instant
    signature: Signature


class Renew(RequestBody):
    """A node asks for a login that is good for longer.

    Attributes:
        token: the login that it has; it may have expired.
        at: when it was signed.
        signature: of ``renewal_bytes``, by the key that the token names.
    """

    token: Token
    at: Instant
    signature: Signature


class Revoke(Named):
    """Which edge loses its login: its connections end, and what is stored for it is deleted."""

    changes = True


class IssuedLogin(Document):
    """A login for the key that asked.

    The token names ``trust_tag`` of authorities and keys, so that they hold only where the authority has signed them:
    who can merely answer requests cannot make a node obey another key.

    Attributes:
        token: to be kept with the private key; a secret only together with it.
        expires, renew_at: seconds since 1970.
        authorities: certificates in PEM by which the node knows the cloud's brokers; empty without TLS.
        cloud_keys: public keys in PEM that sign what the cloud wants of the node.
    """

    edge: Label
    token: Token
    expires: int
    renew_at: int
    authorities: str = ""
    cloud_keys: str = ""


class EnrollUser(Named):
    """A user asks for the login of the name by which it was invited.

    Attributes:
        key: public key that the user has made; the private one never leaves the user's machine.
        at: when it was signed.
        signature: of ``user_enrolment_bytes``, by the invitation's key.
    """

    changes = True

    key: UserKey
    at: Instant
    signature: Signature


class TokenQuery(RequestBody):
    """Whoever asks wants a login at the MQTT door.

    Attributes:
        seconds: how long it is good.
    """

    changes = True

    seconds: Annotated[int, Field(ge=60, le=366 * 86_400)] = 30 * 86_400


class IssuedUserLogin(Document):
    """A login for the key that asked; see ``IssuedLogin``."""

    user: Label
    token: Token
    expires: int
    renew_at: int
    authorities: str = ""


class IssuedToken(Document):
    """A login at the MQTT door: user name and password. Whoever has the token is that user there until it expires."""

    user: Label
    token: Token
    expires: int


def user_enrolment_bytes(user: str, key: str, at: int) -> bytes:
    """Return what the key of a user's invitation signs."""
    return "\n".join(("heliograph user enrolment 1", user, key, str(at))).encode()


def trust_tag(authorities: str, cloud_keys: str) -> str:
    """Return the tag by which a login names what its holder trusts: the broker's authorities, and the cloud's keys."""
    return f"trusts:{hashlib.sha256(f'{authorities}|{cloud_keys}'.encode()).hexdigest()}"


def enrolment_bytes(invitation: str, edge: str, key: str, at: int) -> bytes:
    """Return what the invitation's key signs. The words of a name have no line end, so that no two requests agree."""
    return "\n".join(("heliograph enrolment 1", invitation, edge, key, str(at))).encode()


def renewal_bytes(token: str, at: int) -> bytes:
    """Return what the key of an edge signs to renew its login."""
    return "\n".join(("heliograph renewal 1", token, str(at))).encode()
