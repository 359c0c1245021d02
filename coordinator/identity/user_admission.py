"""Which user gets a login. Pure."""

from __future__ import annotations

from collections.abc import Collection

from heliograph.bus.contract.enrolment_requests import EnrollUser, user_enrolment_bytes
from heliograph.bus.contract.permissions import ANONYMOUS, NEWCOMER, OPERATOR, agent_of, participant_of, worker_login
from heliograph.bus.contract.resources import User, UserStatus
from heliograph.coordinator.identity.admission import check_clock, raw_signature
from heliograph.core.errors import Refused
from heliograph.core.identity.nkeys import verified
from heliograph.core.world import rfc3339

RESERVED = (ANONYMOUS, NEWCOMER, OPERATOR, "coordinator", "system")
"""Logins of components, and those that stand for nobody in particular."""
_AGAIN = "Ask for another invitation: heliograph user invite NAME."


def check_name(user: str, edges: Collection[str], topic: str) -> None:
    """Raise Refused where a user's name is that of another login or of an edge: replies to one would reach the
    other."""
    component = agent_of(user) or participant_of(user) or user.startswith(worker_login(""))
    if user in RESERVED or user in edges or component:
        expected = "a name that no component and no edge has"
        raise Refused("invalid", topic=topic, field="metadata.name", expected=expected, got=user)


def admit_user(user: User, asked: EnrollUser, revoked: Collection[str], now: float) -> User:
    """Return the user with the key that enrols. One that asks again, since it heard no answer, is the same.

    Args:
        revoked: public keys whose login was taken away.
        now: seconds since 1970.

    Raises:
        Refused: where the signature is another's, or the user has no invitation, or it has expired or is used up.
    """
    invitation = user.spec.invitation
    if invitation is None:
        raise _refused("name", "a user with an invitation", f"{user.name}, who has none")
    signed = user_enrolment_bytes(user.name, asked.key, asked.at)
    if not verified(invitation.key, raw_signature(asked.signature), signed):
        raise _refused("signature", f"one by the key of the invitation of {user.name}", "another one")
    check_clock(asked.at, now)
    if now >= invitation.expires:
        raise _refused("name", "an invitation that is good still", f"one that expired at {rfc3339(invitation.expires)}")
    if asked.key in revoked:
        raise Refused("revoked", field="key", expected="a key that was not revoked", got="one that was", hint=_AGAIN)
    if (user.status.key, user.status.invited_by) == (asked.key, invitation.key):
        return user
    if user.status.invited_by == invitation.key:
        raise _refused("name", "an invitation that nobody has used", "one that is used up")
    status = UserStatus(key=asked.key, enrolled=rfc3339(now), invited_by=invitation.key)
    return user.model_copy(update={"status": status})


def _refused(field: str, expected: str, got: str) -> Refused:
    return Refused("bad-invitation", field=field, expected=expected, got=got, hint=_AGAIN)
