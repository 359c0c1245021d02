"""Bodies of the requests by which nodes and users get a login, keep and lose it. The signing key proves who asks."""

import hashlib
from typing import Annotated

from pydantic import Field, StringConstraints

from heliograph.bus.contract.request_bodies import Named, RequestBody
from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.invitation import UserKey
from heliograph.bus.contract.versions import added
from heliograph.core.names import Label, join_labels, label_from

Signature = Annotated[str, StringConstraints(pattern=r"^[-_A-Za-z0-9]{86}$")]
"""Ed25519, 64 bytes in base64url without padding."""
Token = Annotated[str, StringConstraints(max_length=16_384, pattern=r"^[-_.A-Za-z0-9]+$")]
Instant = Annotated[int, Field(ge=0, le=1 << 40)]
"""Seconds since 1970."""
NODE_NAME = r"^([A-Za-z0-9]([-._A-Za-z0-9]{0,251}[A-Za-z0-9])?)?$"
"""Names of machines that can be kept, and none: those of Kubernetes' nodes are among them."""


class EnrolmentRequest(Named):
    """Somebody asks for a login by an invitation.

    Attributes:
        key: public key that the asker has made; the private one never leaves its machine.
        at: when it was signed.
        signature: by the invitation's key.
    """

    changes = True

    key: UserKey
    at: Instant
    signature: Signature


class Enroll(EnrolmentRequest):
    """A node asks for its login; ``name`` is the invitation's, and ``enrolment_bytes`` are signed.

    Attributes:
        edge: name that the node wants.
        node: name of its machine, where the edge's name is made of that one (``edge_of_node``): its name in Kubernetes,
            for example. It is kept, and the edge cannot change it.
    """

    about = "edge"

    edge: Label
    node: Annotated[str, StringConstraints(pattern=NODE_NAME)] = added("0.2", "")


class EnrollUser(EnrolmentRequest):
    """A user asks for the login of the name by which it was invited; ``user_enrolment_bytes`` are signed."""


class Renew(RequestBody):
    """A node or a user asks for a login that is good for longer.

    Attributes:
        token: the login that it has; it may have expired.
        at: when it was signed.
        signature: of ``renewal_bytes``, by the key that the token names.
    """

    token: Token
    at: Instant
    signature: Signature


class RevokeGroup(Named):
    """All edges that have enrolled by invitations of this name lose their logins, and nobody enrols by it any more.

    Attributes:
        dry_run: whether only to say which edges these are.
    """

    changes = True

    dry_run: bool = False


class RevokedGroup(Document):
    """Which edges of a group have lost their logins.

    Attributes:
        edges: their names; with ``dry_run`` of those that would.
        left: how many have one still: the same request again takes more of them away.
        withdrawn: whether there was an invitation.
    """

    name: Label
    edges: list[Label]
    left: int = 0
    withdrawn: bool = False


class Revoke(Named):
    """Which edge loses its login: its connections end, and what is stored for it is deleted."""

    changes = True


class IssuedLogin(Document):
    """A login for the key that asked, which names by a tag the two texts beside it (see ``trust_tag``).

    Attributes:
        name: of the edge, or the user.
        token: to be kept with the private key; a secret only together with it.
        expires: seconds since 1970.
        authorities: certificates in PEM by which its holder knows the cloud's brokers; empty without TLS.
        cloud_keys: public keys in PEM that sign what the cloud wants of a node; empty for a user.
    """

    name: Label
    token: Token
    expires: int
    authorities: str = ""
    cloud_keys: str = ""


class TokenQuery(RequestBody):
    """Whoever asks wants a login at the MQTT door.

    Attributes:
        seconds: how long it is good.
    """

    changes = True

    seconds: Annotated[int, Field(ge=60, le=366 * 86_400)] = 30 * 86_400


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


def enrolment_bytes(invitation: str, edge: str, key: str, at: int, node: str = "") -> bytes:
    """Return what the invitation's key signs. The words of a name have no line end, so that no two requests agree."""
    machine = (node,) if node else ()
    return "\n".join(("heliograph enrolment 1", invitation, edge, key, str(at), *machine)).encode()


def edge_of_node(invitation: str, node: str) -> str:
    """Return the name of the edge of a machine that enrols by a group's invitation."""
    return join_labels(invitation, label_from(node))


def renewal_bytes(token: str, at: int) -> bytes:
    """Return what the key of an edge or a user signs to renew its login."""
    return "\n".join(("heliograph renewal 1", token, str(at))).encode()
