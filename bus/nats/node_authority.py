"""The keys of a node's own broker in operator mode, and what they sign: one account, and a scope for each role.

    authority.json       secrets: the operator's key, the account's, and a key for each role
    logins/NAME.creds    a login on NATS and MQTT: a token, which is the password too
    worker-issuer.json   the key by which the node's agent signs the logins of its workers

A device sends nothing to log in: it is anonymous. So is who sends a token that this authority has not signed; nobody
else decides about clients here, so that devices depend on no other process than the broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heliograph.bus.contract.accounts import EDGE_TAG, NODE, NODE_ROLES, SYSTEM, node_launch_template, node_template
from heliograph.bus.contract.device_permissions import foreign_subjects
from heliograph.bus.contract.permissions import ANONYMOUS
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.nats.authority_keys import FILE, AuthorityKeys
from heliograph.bus.nats.login import Login
from heliograph.bus.nats.worker_issuer import WORKER_ISSUER, WorkerIssuer
from heliograph.core.identity.claims import AccountClaims, OperatorClaims, Scope, UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import encode
from heliograph.core.names import require_label
from heliograph.core.private_files import make_private
from heliograph.core.world import World

_LAUNCH = "launch"
"""Name of the scope of workers' launches."""


class NodeAuthority:
    """Issues the logins of one node's broker.

    Args:
        foreign: MQTT filters of further topics that anonymous clients may publish to, see ``foreign_subjects``.

    Raises:
        HeliographError: if the directory's file cannot be read: other keys would lock every client out.
    """

    def __init__(
        self, directory: Path, world: World, root: str = DEFAULT_ROOT, foreign: Iterable[str] = ()
    ) -> None:
        self._foreign = foreign_subjects(foreign, root)
        self._directory = make_private(directory)
        self._world = world
        self._root = root
        self._keys = AuthorityKeys.read(directory / FILE, world)

    def credentials(self, login: str) -> Path:
        """Return the file with a login."""
        return self._directory / "logins" / f"{require_label(login, 'login')}.creds"

    def account_key(self, account: str) -> str:
        """Return the public key of an account, once it is issued; the server knows the account by it."""
        return self._keys.accounts[account].public

    def issue(self, logins: Iterable[Login]) -> None:
        """Write the logins. Who had one and is not named any more loses it."""
        named = {each.name: each for each in logins}
        for account in (NODE, SYSTEM):
            self._keys.make(self._keys.accounts, account, self._world)
        for scope in (*NODE_ROLES, _LAUNCH):
            self._keys.make(self._keys.scopes, f"{NODE}/{scope}", self._world)
        known = self._keys.logins.setdefault(NODE, {})
        for name in [name for name in known if name not in named]:
            self._keys.revoke(NODE, known.pop(name), self._world)
            self.credentials(name).unlink(missing_ok=True)
        make_private(self._directory / "logins")
        for login in named.values():
            subject = known.setdefault(login.name, KeyPair("user", self._world.new_secret()).public)
            tags = (f"{EDGE_TAG}:{login.edge}",) if login.edge else ()
            claims = UserClaims(subject=subject, name=login.name, account=self.account_key(NODE), tags=tags)
            token = encode(claims, self._scope(login.role), self._world.now())
            UserCredentials(token, claims).write(self.credentials(login.name))
        WorkerIssuer(self.account_key(NODE), self._scope(_LAUNCH)).write(self._directory / WORKER_ISSUER)
        self._keys.write(self._directory / FILE)

    def server_options(self, anonymous: bool = True) -> Mapping[str, Any]:
        """Return the options of nats-server by which it trusts this authority alone.

        Args:
            anonymous: whether it lets clients without a login in.
        """
        system = self.account_key(SYSTEM)
        operator = OperatorClaims(subject=self._keys.operator.public, name="heliograph", system_account=system)
        accounts = (self._node(), AccountClaims(subject=system, name=SYSTEM))
        return {
            "operator": self._signed(operator),
            "system_account": system,
            "resolver": "MEMORY",
            "resolver_preload": {each.subject: self._signed(each) for each in accounts},
            **({"default_sentinel": self._anonymous()} if anonymous else {}),
        }

    def _anonymous(self) -> str:
        """Return the token that the server gives to clients without one."""
        subject = KeyPair("user", self._world.new_secret()).public
        claims = UserClaims(subject=subject, name=ANONYMOUS, account=self.account_key(NODE))
        return encode(claims, self._scope(ANONYMOUS), self._world.now())

    def _node(self) -> AccountClaims:
        templates = {str(role): node_template(role, self._root) for role in NODE_ROLES}
        anonymous = templates[ANONYMOUS]
        templates[ANONYMOUS] = replace(anonymous, publish=(*anonymous.publish, *self._foreign))
        templates[_LAUNCH] = node_launch_template(self._root)
        scopes = tuple(
            Scope(key=self._scope(name).public, role=name, allowed=allowed, bearer=True)
            for name, allowed in templates.items()
        )
        revoked = self._keys.revoked.get(NODE, {})
        return AccountClaims(subject=self.account_key(NODE), name=NODE, jetstream=True, scopes=scopes, revoked=revoked)

    def _signed(self, claims: OperatorClaims | AccountClaims) -> str:
        return encode(claims, self._keys.operator, self._world.now())

    def _scope(self, name: str) -> KeyPair:
        return self._keys.scopes[f"{NODE}/{name}"]
