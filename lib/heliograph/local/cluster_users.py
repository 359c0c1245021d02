"""The logins of a cluster on this machine: components, operator, users, participants, and one for each agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from heliograph.bus.contract.permissions import (
    ANONYMOUS,
    NEWCOMER,
    agent_login,
    agent_of,
    participant_login,
    participant_of,
)
from heliograph.core.errors import Refused
from heliograph.core.names import require_label
from heliograph.local.nats_server import SYSTEM_USER, User

COORDINATOR = "coordinator"
"""Name of the first coordinator."""
OPERATOR = "operator"
"""Login of whoever runs the cluster."""
_RESERVED = (ANONYMOUS, NEWCOMER, COORDINATOR, SYSTEM_USER)


def cloud_users(
    agents: Sequence[str], logins: Mapping[str, str], participants: Mapping[str, str], secret: Callable[[], str],
    enrolled: Sequence[str] = (),
) -> list[User]:  # fmt: skip
    """Return the users of the cloud's broker.

    Args:
        agents: names of the nodes whose agents get a login here: the cloud's, and guests.
        logins: tokens by name, for users beside the operator, or the operator.
        participants: tokens by name.
        secret: makes the token of each other login.
        enrolled: names of the nodes that have a login of their own.
    """
    names = (*agents, *enrolled)
    tokens = {OPERATOR: secret(), **logins}
    for name in tokens:
        check_user(name, names)
    users = [User("coordinator", secret(), "coordinator"), User(OPERATOR, tokens.pop(OPERATOR), "operator")]
    users += [User(name, token, "user") for name, token in tokens.items()]
    for name, token in participants.items():
        check_participant(name, names)
        users.append(User(participant_login(name), token, "participant", name))
    return users + [User(agent_login(name), secret(), "agent", name) for name in agents]


def check_user(name: str, edges: Sequence[str] = ()) -> None:
    """Raise Refused where a user's name is no label, or another login or an edge has it: replies to one would reach
    the other."""
    require_label(name, "user")
    if name in _RESERVED or name in edges or agent_of(name) or participant_of(name):
        raise Refused("invalid", field="user", expected="a name that no component and no edge has", got=name)


def check_participant(name: str, edges: Sequence[str] = ()) -> None:
    """Raise Refused where a participant's name or its login is no label, or an edge has it: both are placed alike."""
    require_label(participant_login(require_label(name, "participant")), "login of participant")
    if name in edges:
        raise Refused("invalid", field="participant", expected="a name that no edge has", got=name)
