"""Who may enrol, and whose login is renewed. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from heliograph.bus.contract.enrolment_requests import Enroll, Renew, edge_of_node, enrolment_bytes, renewal_bytes
from heliograph.bus.contract.resources.invitation import Invitation, InvitedNode
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.nkeys import verified
from heliograph.core.identity.tokens import decode
from heliograph.core.names import CLOUD
from heliograph.core.world import rfc3339
from heliograph.incremental.loop import seconds

CLOCKS_DIFFER = 300
"""Seconds by which the clock of a node that asks may differ from the cloud's."""
_AGAIN = "Ask for another invitation: heliograph edge invite NAME."


class Holders(Protocol):
    """The logins of one kind of holder, as ``Authority`` knows them.

    Attributes:
        holders: public key of each, by its name.
    """

    @property
    def holders(self) -> Mapping[str, str]: ...

    def issuer_of(self, name: str) -> str:
        """Return the public key that signs for a holder's logins; empty for one that never had any."""
        ...


def admit(
    invitation: Invitation, asked: Enroll, known: Mapping[str, str], revoked: Collection[str], now: float
) -> Invitation:  # fmt: skip
    """Return the invitation with the node that enrols. A node that asks again, since it heard no answer, is the same.

    Args:
        known: public key of each edge that has a login.
        revoked: public keys whose login was taken away.
        now: seconds since 1970.

    Raises:
        Refused: where the signature is another's, or the invitation has expired, is used up, or is for another name.
    """
    signed = enrolment_bytes(invitation.name, asked.edge, asked.key, asked.at, asked.node)
    if not verified(invitation.spec.key, raw_signature(asked.signature), signed):
        raise Refused("bad-invitation", field="signature", expected=f"one by the key of invitation {invitation.name}",
                      got="another one", hint=_AGAIN)  # fmt: skip
    check_clock(asked.at, now)
    if now >= (until := expires_of(invitation)):
        raise Refused("bad-invitation", field="name", expected="an invitation that is good still",
                      got=f"one that expired at {rfc3339(until)}", hint=_AGAIN)  # fmt: skip
    if not invitation.names(asked.edge) or asked.edge == CLOUD:
        wanted = invitation.name if invitation.spec.nodes == 1 else f"a name that begins with {invitation.name}-"
        raise Refused("bad-invitation", field="edge", expected=wanted, got=asked.edge)
    if asked.node and asked.edge != (own := edge_of_node(invitation.name, asked.node)):
        raise Refused("bad-invitation", field="edge", expected=f"{own}, which is made of node {asked.node}",
                      got=asked.edge, hint="Name the machine alone: heliograph enroll … --node-name NODE.")  # fmt: skip
    if asked.key in revoked:
        raise Refused("revoked", field="key", expected="a key that was not revoked", got="one that was",
                      hint="Make another key, and enrol it by another invitation.")  # fmt: skip
    before = invitation.status.enrolled.get(asked.edge)
    if before is not None and before.key == asked.key:
        return invitation
    # of two nodes that ask at once the second finds the first in the invitation, and not among the known
    holder = before.key if before is not None and before.key not in revoked else known.get(asked.edge, asked.key)
    if holder != asked.key:
        raise Refused("exists", field="edge", expected="a name that no enrolled edge has", got=asked.edge,
                      hint=f"Take its login away first: heliograph edge revoke {asked.edge}.")  # fmt: skip
    if len(invitation.status.enrolled) >= invitation.spec.nodes:
        raise Refused("bad-invitation", field="name", expected=f"one that fewer than {invitation.spec.nodes} have used",
                      got="one that is used up", hint=_AGAIN)  # fmt: skip
    enrolled = invitation.status.enrolled | {asked.edge: InvitedNode(key=asked.key, at=rfc3339(now))}
    status = invitation.status.model_copy(update={"enrolled": enrolled})
    return invitation.model_copy(update={"status": status})


def withdrawn(name: str) -> Refused:
    """Return the refusal of a node whose invitation was withdrawn while it asked."""
    return Refused("bad-invitation", field="name", expected="an invitation that was not withdrawn", got=name,
                   hint=_AGAIN)  # fmt: skip


def expires_of(invitation: Invitation) -> float:
    """Return when an invitation expires, in seconds since 1970."""
    return seconds(invitation.metadata.creation_timestamp) + invitation.spec.seconds


def renewing(asked: Renew, named: Callable[[str], str], enrolled: Holders, now: float) -> str:
    """Return the edge or user whose login may be renewed.

    Args:
        named: returns who has a login, by the login's name.
        enrolled: who has a login: one that was revoked is not among them.

    Raises:
        Refused: where the token is none of ours, or the key that it names has not signed, or was revoked.
    """
    claims = decode(asked.token, UserClaims, "token")
    name = named(claims.name)
    if claims.issuer != enrolled.issuer_of(name):
        raise Refused("bad-token", field="token", expected="one that this cloud has signed", got="another's")
    if not verified(claims.subject, raw_signature(asked.signature), renewal_bytes(asked.token, asked.at)):
        raise Refused("bad-token", field="signature", expected="one by the key that the token names", got="another one")
    check_clock(asked.at, now)
    if enrolled.holders.get(name) != claims.subject:
        raise Refused("revoked", field="token", expected="a login that was not taken away", got="one that was",
                      hint="Ask the cloud's operator for an invitation, and enrol again.")  # fmt: skip
    return name


def check_clock(at: int, now: float) -> None:
    """Raise Refused where a request was signed too long before or after now."""
    if abs(at - now) > CLOCKS_DIFFER:
        raise Refused("clock", field="at", expected=f"{rfc3339(now)}, by up to {CLOCKS_DIFFER} s", got=rfc3339(at),
                      hint="Set the node's clock: timedatectl set-ntp true.")  # fmt: skip


def raw_signature(signature: str) -> bytes:
    """Return the bytes of a signature in base64url without padding."""
    return base64.urlsafe_b64decode(signature + "==")
