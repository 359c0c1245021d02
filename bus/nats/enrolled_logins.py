"""Logins whose private key never was here: who holds which public key, what was taken away, and the tokens for them.

Edges and users are each one kind of holder, with an account for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heliograph.bus.nats.authority_keys import AuthorityKeys
from heliograph.bus.nats.login import Login
from heliograph.core.identity.claims import NATS_CONNECTIONS, UserClaims
from heliograph.core.identity.tokens import encode
from heliograph.core.world import World


@dataclass(frozen=True)
class EnrolledLogins:
    """The logins of one kind of holder.

    Attributes:
        holders: public key of each, by its name; a part of ``keys``.
        login: returns the login of a name.
    """

    holders: dict[str, str]
    login: Callable[[str], Login]
    keys: AuthorityKeys
    world: World

    def revoked(self, name: str) -> frozenset[str]:
        """Return the public keys by which a holder had a login that was taken away."""
        return frozenset(self.keys.revoked.get(self.login(name).account, ()))

    def issuer_of(self, name: str) -> str:
        """Return the public key that signs for a holder's logins; empty for one that never had any."""
        key = self.keys.accounts.get(self.login(name).account)
        return key.public if key is not None else ""

    def note(self, name: str, key: str) -> None:
        """Note that a public key is a holder's, in place of an earlier one, which is revoked."""
        if self.holders.get(name) not in (None, key):
            self.revoke(name)
        self.keys.make(self.keys.accounts, self.login(name).account, self.world)
        self.holders[name] = key

    def revoke(self, name: str) -> None:
        """Take the login of a holder away."""
        self.keys.revoke(self.login(name).account, self.holders.pop(name), self.world)

    def token(self, name: str, expires: int, *tags: str) -> str:
        """Return a token that lets a holder in on NATS until ``expires``, in seconds since 1970, and names the tags."""
        login = self.login(name)
        claims = UserClaims(subject=self.holders[name], name=login.name, expires=expires,
                            connection_types=NATS_CONNECTIONS, tags=tags)  # fmt: skip
        return encode(claims, self.keys.accounts[login.account], self.world.now())
