"""Issue, renew and revoke the logins of edges and users that enrol: the authority signs, the broker is told at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.contract.enrolment_requests import IssuedLogin, IssuedToken, trust_tag
from heliograph.bus.nats.authority import Authority
from heliograph.bus.nats.authority_keys import Origin
from heliograph.bus.nats.connection import NatsConnection
from heliograph.bus.nats.enrolled_logins import EnrolledLogins
from heliograph.core.ed25519_signer import pem_of, public_keys
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.claims import AccountClaims
from heliograph.core.identity.tokens import decode
from heliograph.core.world import World

LOGIN_SECONDS = 86_400
"""How long an edge's login is good; its agent renews it at half of that."""
USER_SECONDS = 30 * 86_400
"""How long a user's login is good; its commands renew it after half of that."""
_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
_SITES = "$SYS.REQ.ACCOUNT.{}.CLAIMS.UPDATE"
"""Where a server of a site takes what one with a resolver of all accounts takes at the other subject."""


class Issuer:
    """The logins of edges and users that have enrolled.

    Args:
        directory: that of the authority; every coordinator of the cloud has it.
        system: a connection with the login of the server's own account, which takes new accounts.
        authorities: file of the certificates by which nodes know the cloud's broker; none without TLS.
        seconds: how long a login is good.
        cloud_keys: public keys in PEM that sign what the cloud wants of nodes.
        cloud_keys_file: a file with further ones, which is read at each login: keys change while coordinators run.
    """

    def __init__(
        self, directory: Path, system: NatsConnection, world: World, root: str, authorities: Path | None = None,
        seconds: int = LOGIN_SECONDS, cloud_keys: str = "", cloud_keys_file: Path | None = None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._system = system
        self._world = world
        self._root = root
        self._authorities = authorities
        self._seconds = seconds
        self._cloud_keys = cloud_keys
        self._cloud_keys_file = cloud_keys_file
        self._origins: Mapping[str, Origin] = {}
        self._changing = asyncio.Lock()
        """Guards reading and writing the authority's file, which a thread does."""

    async def authority(self) -> Authority:
        """Return the authority as it is now: another coordinator may have led before."""
        authority: Authority = await self._world.in_thread(Authority, self._directory, self._world, self._root)
        self._origins = authority.origins
        return authority

    def origin(self, edge: str) -> Origin | None:
        """Return how an edge has enrolled, as of the last time that the authority was read or changed; None for one
        that did not do so by an invitation."""
        return self._origins.get(edge)

    async def enroll_edge(
        self, edge: str, key: str, origin: Origin, may: Callable[[], None] = lambda: None
    ) -> IssuedLogin:  # fmt: skip
        """Let the holder of a key in as an edge. Return once the broker knows it.

        Args:
            may: called when nothing else changes logins any more; raises Refused where the edge may not enrol now.
        """
        async with self._changing:
            authority = await self.authority()
            may()
            await self._tell(authority.enroll_edge, edge, key, origin)
        return await self.login_of_edge(authority, edge)

    async def enroll_user(self, user: str, key: str) -> IssuedLogin:
        """Let the holder of a key in as a user. Return once the broker knows it."""
        async with self._changing:
            authority = await self.authority()
            await self._tell(authority.enroll_user, user, key)
        return await self.login_of_user(authority, user)

    async def revoke_edge(self, edge: str) -> None:
        """Take an edge's login away. Return once the broker has ended its connections. Raise Refused for an edge that
        has not enrolled."""
        async with self._changing:
            authority = await self.authority()
            holders = authority.edges.holders
            if edge not in holders:
                known = ", ".join(sorted(holders)[:10]) or "none has enrolled"
                raise Refused("not-enrolled", field="name", expected=f"an edge that has enrolled: {known}", got=edge)
            await self._tell(authority.revoke_edges, [edge])

    async def revoke_group(self, invitation: str, most: int) -> tuple[list[str], int]:
        """Take the logins of edges away that have enrolled by an invitation, ``most`` of them. Return these once the
        broker has ended their connections, and the number of those that are left."""
        async with self._changing:
            authority = await self.authority()
            group = group_of(authority, invitation)
            if group:
                await self._tell(authority.revoke_edges, group[:most])
        return group[:most], max(0, len(group) - most)

    async def revoke_user(self, user: str) -> None:
        """Take a user's logins away, if it has any. Return once the broker has ended its connections."""
        async with self._changing:
            authority = await self.authority()
            await self._tell(authority.revoke_user, user)

    async def login_of_edge(self, authority: Authority, edge: str) -> IssuedLogin:
        """Return a login for an enrolled edge that is good for as long again."""
        return await self._issued(authority.edges, edge, self._seconds, self._keys_of_cloud())

    async def login_of_user(self, authority: Authority, user: str) -> IssuedLogin:
        """Return a login for an enrolled user that is good for as long again."""
        return await self._issued(authority.users, user, USER_SECONDS, "")

    async def token_of_user(self, user: str, seconds: int) -> IssuedToken:
        """Return a password for MQTT."""
        expires = int(self._world.now()) + seconds
        async with self._changing:
            authority = await self.authority()
            token: str = await self._world.in_thread(authority.door_token, user, expires)
        return IssuedToken(user=user, token=token, expires=expires)

    async def _issued(self, enrolled: EnrolledLogins, name: str, seconds: int, cloud_keys: str) -> IssuedLogin:
        expires = int(self._world.now()) + seconds
        authorities = self._authorities.read_text() if self._authorities is not None else ""
        token: str = await self._world.in_thread(enrolled.token, name, expires, trust_tag(authorities, cloud_keys))
        return IssuedLogin(name=name, token=token, expires=expires, authorities=authorities, cloud_keys=cloud_keys)

    def _keys_of_cloud(self) -> str:
        """Return the public keys that nodes obey from now on: that of this coordinator, and those of the file."""
        if self._cloud_keys_file is None:
            return self._cloud_keys
        others = (pem_of(key) for key in sorted(public_keys(self._cloud_keys_file)))
        return self._cloud_keys + "".join(each for each in others if each != self._cloud_keys)

    async def _tell(self, change: Callable[..., list[str]], *what: Any) -> None:
        """Make a change of the authority, and tell the broker of the accounts that it returns. Raise HeliographError
        where the broker does not take one."""
        for account in await self._world.in_thread(change, *what):
            answer = json.loads((await self._system.request(_UPDATE, account.encode())).data)
            if (answer.get("data") or {}).get("code") != 200:
                raise HeliographError(f"the broker does not take an account: {str(answer.get('error'))[:200]}")
            subject = _SITES.format(decode(account, AccountClaims).subject)
            await self._system.guard(self._system.client.publish(subject, account.encode()), subject)


def group_of(authority: Authority, invitation: str) -> list[str]:
    """Return the edges with a login that have enrolled by an invitation of this name."""
    holders = authority.edges.holders
    return sorted(edge for edge, origin in authority.origins.items()
                  if origin.invitation == invitation and edge in holders)  # fmt: skip
