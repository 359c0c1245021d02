"""The keys of a broker in operator mode, and what they sign: accounts and logins, kept in a directory.

    authority.json       secrets: the operator's key, a key for each account and each role at the MQTT door
    accounts/KEY.jwt     the accounts, as the server's resolver keeps them
    logins/NAME.creds    a login on NATS: a token with the key that its user signs with
    logins/NAME.mqtt     a login at the MQTT door: a token that is the password
    callout.json         keys of whoever decides about clients without a token
    worker-issuer.json   the key by which the cloud's agent signs the logins of its workers

Whoever has the directory is every login. The server gets public keys and tokens of accounts alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heliograph.bus.contract.accounts import (
    CORE,
    CORE_ROLES,
    DOOR,
    DOOR_ROLES,
    EDGE_TAG,
    ENROL,
    GUESTS,
    SYSTEM,
    allowed_of,
    core_exports,
    core_imports,
    core_template,
    door_exports,
    door_imports,
    door_template,
    imports_of,
)
from heliograph.bus.contract.permissions import NEWCOMER
from heliograph.bus.contract.topics import DEFAULT_ROOT, Role
from heliograph.bus.nats.auth_callout import CalloutKeys
from heliograph.bus.nats.authority_keys import FILE, AuthorityKeys, Origin
from heliograph.bus.nats.enrolled_logins import EnrolledLogins
from heliograph.bus.nats.login import Login, login_of_edge, login_of_user
from heliograph.bus.nats.worker_issuer import WORKER_ISSUER, WorkerIssuer
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import (
    MQTT_CONNECTIONS,
    NATS_CONNECTIONS,
    NO_LIMIT,
    AccountClaims,
    ConnectionType,
    OperatorClaims,
    Scope,
    UserClaims,
)
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode, encode
from heliograph.core.names import require_label
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World

CALLOUT_KEYS = "callout.json"
_CALLOUT = "callout"
"""Name of the login of whoever decides about clients without a token."""
_WAYS: Mapping[Role, tuple[ConnectionType, ...]] = {"anonymous": (), "coordinator": ()}
"""Roles that come to DOOR by NATS too: anonymous clients may publish nothing, so that they forge no reply subjects, and
the coordinator bounds there what MQTT clients make the broker keep."""


class Authority:
    """Issues accounts and logins of one broker.

    Args:
        system: name of the login to the server's own account, for presence.

    Raises:
        HeliographError: if the directory's file cannot be read: other keys would lock every client out.
    """

    def __init__(self, directory: Path, world: World, root: str = DEFAULT_ROOT, system: str = "system") -> None:
        self._directory = make_private(directory)
        self._world = world
        self._root = root
        self._system = system
        self._file = directory / FILE
        self._keys = AuthorityKeys.read(self._file, world)

    def credentials(self, login: str) -> Path:
        """Return the file with a login on NATS."""
        return self._directory / "logins" / f"{require_label(login, 'login')}.creds"

    def door_credentials(self, login: str) -> Path:
        """Return the file with a login at the MQTT door."""
        return self._directory / "logins" / f"{require_label(login, 'login')}.mqtt"

    def account_key(self, account: str) -> str:
        """Return the public key of an account, once it is issued; the server knows the account by it."""
        return self._public(account)

    def issue(self, logins: Iterable[Login]) -> None:
        """Write accounts and logins where they are not written so already. Who had a login and is not named any more
        loses it."""
        self._keys = AuthorityKeys.read(self._file, self._world)  # the coordinator may have enrolled edges meanwhile
        named = {each.name: each for each in logins}
        self._forget(named)
        make_private(self._directory / "logins")
        own = {ENROL: Login(NEWCOMER, "newcomer")}
        for enrolled in (self.edges, self.users):
            own |= {login.account: login for login in map(enrolled.login, enrolled.holders)}
        own |= {each.account: each for each in named.values()}
        for name in (CORE, DOOR, GUESTS, SYSTEM, *own):
            self._keys.make(self._keys.accounts, name, self._world)
        for name in (*(f"{CORE}/{role}" for role in CORE_ROLES), *(f"{DOOR}/{role}" for role in DOOR_ROLES)):
            self._keys.make(self._keys.scopes, name, self._world)
        for login in named.values():
            self._issue_login(login)
        self._issue_own_login(self._system, SYSTEM)
        self._issue_own_login(_CALLOUT, GUESTS)
        self._write_callout_keys()
        WorkerIssuer(self._public(CORE), self._scope(CORE, "cloud-worker")).write(self._directory / WORKER_ISSUER)
        self._write_accounts([self._core(), self._door(), self._guests(), self._sys(), *(
            self._account(name, login) for name, login in own.items() if name not in (CORE, DOOR)
        )])  # fmt: skip
        self._keys.write(self._file)

    @property
    def edges(self) -> EnrolledLogins:
        """The edges that have enrolled."""
        return EnrolledLogins(self._keys.enrolled, login_of_edge, self._keys, self._world)

    @property
    def users(self) -> EnrolledLogins:
        """The users that have enrolled."""
        return EnrolledLogins(self._keys.users, login_of_user, self._keys, self._world)

    @property
    def made_users(self) -> list[str]:
        """The names of users whose login was made here, with its key."""
        return [name for account, logins in self._keys.logins.items() for name in logins
                if account == login_of_user(name).account]  # fmt: skip

    def issues(self, login: str) -> bool:
        """Return whether a login of that name was made here, with its key, and did not enrol."""
        return any(login in logins for logins in self._keys.logins.values()) and login not in self._keys.users

    @property
    def origins(self) -> Mapping[str, Origin]:
        """How each edge has enrolled that did so by an invitation, by its name."""
        return self._keys.origins

    def enroll_edge(self, edge: str, key: str, origin: Origin) -> list[str]:
        """Let the holder of a public key in as an edge; see ``enroll_user``."""
        self._keys.origins[edge] = origin
        return self._enroll(self.edges, edge, key)

    def enroll_user(self, user: str, key: str) -> list[str]:
        """Let the holder of a public key in as a user; return the tokens of the accounts that change, for the
        server."""
        return self._enroll(self.users, user, key)

    def enroll_here(
        self, files: Mapping[str, Path], expires: int, tags: Iterable[str], reset: Collection[str] = ()
    ) -> None:  # fmt: skip
        """Enrol edges of this machine, before the server starts, and write the login of each with a key of its own: the
        one in its file, unless there is none, or that was revoked.

        Args:
            files: the file of each edge's login.
            reset: edges that have lost their file: the key that they had is revoked.

        Raises:
            Refused: where another node has enrolled by the name of one.
        """
        self._keys = AuthorityKeys.read(self._file, self._world)
        edges = self.edges
        for edge, file in files.items():
            key = _key_of(file)
            if key is None or key.public in edges.revoked(edge):
                key = KeyPair("user", self._world.new_secret())
            if edges.holders.get(edge, key.public) != key.public and edge not in reset:
                raise Refused("exists", field="edge", expected="a name that no other node has enrolled by", got=edge,
                              hint="Start without that edge, and take the other's login away: heliograph edge revoke"
                              f" {edge}.")  # fmt: skip
            edges.note(edge, key.public)
            self._keys.origins.pop(edge, None)
            token = edges.token(edge, expires, *tags)
            UserCredentials(token, decode(token, UserClaims), key).write(file)
        self._keys.write(self._file)  # last: a key that nobody has is not noted

    def revoke_edges(self, edges: Iterable[str]) -> list[str]:
        """Take the logins of enrolled edges away; return the tokens of the accounts that lose them, by which the server
        ends their connections."""
        revoked = [*edges]
        for edge in revoked:
            self.edges.revoke(edge)
            self._keys.origins.pop(edge, None)
            self._keys.revoke_all(login_of_edge(edge).account, self._world)  # the links of its site's server as well
        self._keys.write(self._file)
        return [self._token_of(login_of_edge(edge)) for edge in revoked]

    def revoke_user(self, user: str) -> list[str]:
        """Take a user's logins away, on NATS and at the MQTT door, those that were made here too; see
        ``revoke_edges``."""
        login, changed = login_of_user(user), []
        if user in self._keys.users:
            self.users.revoke(user)
            changed.append(login.account)
        for account in (login.account, DOOR):
            if (key := self._keys.logins.get(account, {}).pop(user, None)) is not None:
                self._keys.revoke(account, key, self._world)
                changed.append(account)
        for file in (self.credentials(user), self.door_credentials(user)):
            file.unlink(missing_ok=True)
        self._keys.write(self._file)
        return [self._account_token(self._door()) if account == DOOR else self._token_of(login) for account in changed]

    def door_token(self, user: str, expires: int) -> str:
        """Return a token that lets an enrolled user in at the MQTT door until ``expires``, as its password."""
        logins = self._keys.logins.setdefault(DOOR, {})
        if user not in logins:
            logins[user] = KeyPair("user", self._world.new_secret()).public
            self._keys.write(self._file)
        claims = UserClaims(subject=logins[user], name=user, expires=expires, account=self._public(DOOR))
        return encode(claims, self._scope(DOOR, "user"), self._world.now())

    def server_options(self) -> Mapping[str, Any]:
        """Return the options of nats-server by which it trusts this authority alone."""
        operator = OperatorClaims(subject=self._keys.operator.public, name="heliograph",
                                  system_account=self._public(SYSTEM))  # fmt: skip
        return {
            "operator": encode(operator, self._keys.operator, 0),  # the same each time: the server can read it again
            "system_account": self._public(SYSTEM),
            "resolver": {"type": "full", "dir": str(self._accounts), "allow_delete": True, "interval": "2m"},
            "default_sentinel": self._sentinel(),
        }

    @property
    def _accounts(self) -> Path:
        return self._directory / "accounts"

    def _enroll(self, enrolled: EnrolledLogins, name: str, key: str) -> list[str]:
        enrolled.note(name, key)
        self._keys.write(self._file)
        return [self._token_of(enrolled.login(name))]

    def _issue_login(self, login: Login) -> None:
        account, file = login.account, self.credentials(login.name)
        key = _key_of(file) or KeyPair("user", self._world.new_secret())
        claims = UserClaims(subject=key.public, name=login.name, expires=login.expires)
        if account == CORE:
            self._write(file, CORE, key, replace(claims, account=self._public(CORE)), self._scope(CORE, login.role))
        else:
            claims = replace(claims, connection_types=NATS_CONNECTIONS)
            self._write(file, account, key, claims, self._keys.accounts[account])
        if login.role in DOOR_ROLES:
            self._issue_at_door(login)

    def _issue_at_door(self, login: Login) -> None:
        public = self._keys.logins.get(DOOR, {}).get(login.name)
        subject = public or KeyPair("user", self._world.new_secret()).public
        tags = (f"{EDGE_TAG}:{login.edge}",) if login.edge else ()
        claims = UserClaims(subject=subject, name=login.name, expires=login.expires, account=self._public(DOOR),
                            tags=tags)  # fmt: skip
        self._write_unless_there(self.door_credentials(login.name), claims, self._scope(DOOR, login.role), None)
        self._keys.logins.setdefault(DOOR, {})[login.name] = subject

    def _issue_own_login(self, name: str, account: str) -> None:
        file = self.credentials(name)
        key = _key_of(file) or KeyPair("user", self._world.new_secret())
        self._write(file, account, key, UserClaims(subject=key.public, name=name), self._keys.accounts[account])

    def _write_callout_keys(self) -> None:
        accounts = self._keys.accounts
        keys = CalloutKeys(self.credentials(_CALLOUT), self._public(DOOR), accounts[GUESTS],
                           self._scope(DOOR, "anonymous"), accounts[ENROL])  # fmt: skip
        keys.write(self._directory / CALLOUT_KEYS)

    def _write(self, file: Path, account: str, key: KeyPair, claims: UserClaims, signer: KeyPair) -> None:
        self._write_unless_there(file, claims, signer, key)
        self._keys.logins.setdefault(account, {})[claims.name] = key.public

    def _write_unless_there(self, file: Path, claims: UserClaims, signer: KeyPair, key: KeyPair | None) -> None:
        """Write a login; one that claims the same already stays, since its user may have put it elsewhere."""
        try:
            there = UserCredentials.read(file).claims
        except Refused:
            there = None
        if there is None or replace(there, issued_at=0) != replace(claims, issuer=signer.public):
            token = encode(claims, signer, self._world.now())
            UserCredentials(token, claims, key).write(file)

    def _sentinel(self) -> str:
        """Return the token that the server gives to clients without one: it leads to the auth callout.

        Its name is the sender of what they publish to another account, and only newcomers may do that."""
        guest = KeyPair("user", hashlib.sha256(self._public(GUESTS).encode()).digest())  # nobody needs its key
        claims = UserClaims(subject=guest.public, name=NEWCOMER, bearer=True)
        return encode(claims, self._keys.accounts[GUESTS], 0)

    def _core(self) -> AccountClaims:
        root = self._root
        scopes = tuple(
            Scope(key=self._scope(CORE, role).public, role=role, allowed=core_template(role, root),
                  connection_types=NATS_CONNECTIONS) for role in CORE_ROLES
        )  # fmt: skip
        return AccountClaims(subject=self._public(CORE), name=CORE, jetstream=True, scopes=scopes,
                             exports=core_exports(root), imports=core_imports(self._public(DOOR), root))  # fmt: skip

    def _door(self) -> AccountClaims:
        root = self._root
        scopes = tuple(
            Scope(key=self._scope(DOOR, role).public, role=role, allowed=door_template(role, root), bearer=True,
                  connection_types=_WAYS.get(role, MQTT_CONNECTIONS)) for role in DOOR_ROLES
        )  # fmt: skip
        return AccountClaims(subject=self._public(DOOR), name=DOOR, jetstream=True, scopes=scopes,
                             exports=door_exports(root), imports=door_imports(self._public(CORE), root))  # fmt: skip

    def _guests(self) -> AccountClaims:
        callout = self._keys.logins[GUESTS][_CALLOUT]
        return AccountClaims(subject=self._public(GUESTS), name=GUESTS, authorized_by=(callout,),
                             authorizes_for=(self._public(DOOR), self._public(ENROL)))  # fmt: skip

    def _sys(self) -> AccountClaims:
        return AccountClaims(subject=self._public(SYSTEM), name=SYSTEM, leaf_nodes=NO_LIMIT)

    def _account(self, name: str, login: Login) -> AccountClaims:
        imports = imports_of(login.role, self._public(CORE), self._public(DOOR), self._root, login=login.name,
                             edge=login.edge)  # fmt: skip
        allowed = allowed_of(login.role, self._root, login=login.name, edge=login.edge)
        leaf_nodes = NO_LIMIT if login.role in ("agent", "newcomer") else 0
        return AccountClaims(subject=self._public(name), name=name, imports=imports, allowed=allowed,
                             leaf_nodes=leaf_nodes)  # fmt: skip

    def _token_of(self, login: Login) -> str:
        return self._account_token(self._account(login.account, login))

    def _write_accounts(self, accounts: Iterable[AccountClaims]) -> None:
        """Write the resolver's directory, without accounts that are none of these."""
        make_private(self._accounts)
        written = set()
        for claims in accounts:
            file = self._accounts / f"{claims.subject}.jwt"
            written.add(file.name)
            if not file.exists() or not _says(file.read_text(), self._with_revoked(claims)):
                write_private(file, self._account_token(claims))
        for file in self._accounts.glob("*.jwt"):
            if file.name not in written:
                file.unlink()

    def _account_token(self, claims: AccountClaims) -> str:
        return encode(self._with_revoked(claims), self._keys.operator, self._world.now())

    def _with_revoked(self, claims: AccountClaims) -> AccountClaims:
        return replace(claims, issuer=self._keys.operator.public, revoked=self._keys.revoked.get(claims.name, {}))

    def _forget(self, named: Mapping[str, Login]) -> None:
        """Revoke the logins that are not named, or have another role now."""
        for account, logins in self._keys.logins.items():
            for name in [*logins]:
                if name in (self._system, _CALLOUT) or (account == DOOR and name in self._keys.users):
                    continue
                login = named.get(name)
                if login is None or account not in (login.account, DOOR):
                    self._keys.revoke(account, logins.pop(name), self._world)
                    if login is None:
                        self.credentials(name).unlink(missing_ok=True)
                        self.door_credentials(name).unlink(missing_ok=True)

    def _public(self, account: str) -> str:
        return self._keys.accounts[account].public

    def _scope(self, account: str, role: Role) -> KeyPair:
        return self._keys.scopes[f"{account}/{role}"]


def _says(token: str, claims: AccountClaims) -> bool:
    """Return whether an account's token claims this already, whenever it was signed."""
    try:
        return replace(decode(token, AccountClaims), issued_at=0) == claims
    except Refused:
        return False


def _key_of(file: Path) -> KeyPair | None:
    """Return the key of a login's file; None where there is none."""
    try:
        return UserCredentials.read(file).key
    except Refused:
        return None
