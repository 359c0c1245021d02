"""A login of a broker in operator mode, and the account that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from heliograph.bus.contract.accounts import account_of
from heliograph.bus.contract.permissions import agent_login
from heliograph.bus.contract.topics import Role


@dataclass(frozen=True)
class Login:
    """Who may log in: a component, a person, a program.

    Attributes:
        edge: of an agent the edge, of a participant its name.
        expires: seconds since 1970; 0 for never.
    """

    name: str
    role: Role
    edge: str = ""
    expires: int = 0

    @property
    def account(self) -> str:
        """The name of its account on NATS."""
        return account_of(self.role, self.name, self.edge)


def login_of_edge(edge: str) -> Login:
    """Return the login of an edge's agent."""
    return Login(agent_login(edge), "agent", edge)


def login_of_user(user: str) -> Login:
    """Return the login of a user on NATS."""
    return Login(user, "user")
