"""What NATS's tokens claim (JWT v2): an operator's, an account's and a user's.

Names and values are those of https://pkg.go.dev/github.com/nats-io/jwt/v2; a field of ours that has another name there
says so. What the tokens of the three kinds have in common is in ``Claims``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from heliograph.core.identity.nkeys import Kind

NO_LIMIT = -1
ConnectionType = Literal["STANDARD", "WEBSOCKET", "MQTT", "MQTT_WS", "LEAFNODE"]
NATS_CONNECTIONS: tuple[ConnectionType, ...] = ("STANDARD", "WEBSOCKET")
MQTT_CONNECTIONS: tuple[ConnectionType, ...] = ("MQTT", "MQTT_WS")


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What every token claims.

    Attributes:
        subject: public key of whom the token is about.
        name: for people.
        expires: seconds since 1970 after which the server refuses it and ends its connections; 0 for never.
        issuer, issued_at: who signed it, and when, in seconds since 1970. ``encode`` fills both in.
    """

    kind: ClassVar[Kind]
    issuers: ClassVar[tuple[Kind, ...]]
    """What keys may sign such a token."""

    subject: str
    name: str = ""
    expires: int = 0
    issuer: str = ""
    issued_at: int = 0

    def body(self) -> dict[str, Any]:
        """Return the part of the token that only its kind has."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OperatorClaims(Claims):
    """The operator signs accounts; a server trusts its key."""

    kind = "operator"
    issuers = ("operator",)

    system_account: str = ""

    def body(self) -> dict[str, Any]:
        return {"system_account": self.system_account} if self.system_account else {}


@dataclass(frozen=True)
class Export:
    """Subjects that an account offers to others.

    Attributes:
        type: ``stream``, which importers subscribe to, or ``service``, which they send requests to.
        response_type: of a service: how many messages answer one request.
    """

    subject: str
    type: Literal["stream", "service"]
    response_type: Literal["Singleton", "Stream"] = "Singleton"

    def tree(self) -> dict[str, Any]:
        response = {"response_type": self.response_type} if self.type == "service" else {}
        return {"name": self.subject, "subject": self.subject, "type": self.type, **response}


@dataclass(frozen=True)
class Import:
    """Subjects of another account that clients of this one use under the same name.

    Attributes:
        account: public key of the account that exports them.
        share: of a service: whether the server tells the exporter who asks (``Nats-Request-Info``).
    """

    subject: str
    type: Literal["stream", "service"]
    account: str
    share: bool = False

    def tree(self) -> dict[str, Any]:
        share = {"share": True} if self.share else {}
        return {"name": self.subject, "subject": self.subject, "account": self.account, "type": self.type, **share}


@dataclass(frozen=True)
class Allowed:
    """Subjects that a user may publish and subscribe to; without any allowed one, all that are not denied.

    Attributes:
        answers: whether it may answer each message that it gets once, wherever the message asks for the answer.
    """

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    deny_publish: tuple[str, ...] = ()
    deny_subscribe: tuple[str, ...] = ()
    answers: bool = False

    def tree(self) -> dict[str, Any]:
        return {"pub": _listed(allow=self.publish, deny=self.deny_publish),
                "sub": _listed(allow=self.subscribe, deny=self.deny_subscribe),
                **({"resp": {"max": 1, "ttl": 0}} if self.answers else {})}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What all users may whose tokens a signing key of the account has signed; their tokens claim nothing themselves.

    Attributes:
        key: public key that signs for the account.
        allowed: subjects, in which ``{{name()}}`` stands for the user's name and ``{{tag(x)}}`` for its tag ``x:…``.
        bearer, connection_types: see ``UserClaims``.
    """

    key: str
    role: str
    allowed: Allowed
    bearer: bool = False
    connection_types: tuple[ConnectionType, ...] = ()

    def tree(self) -> dict[str, Any]:
        template = _user_limits(self.allowed, self.bearer, self.connection_types)
        return {"kind": "user_scope", "key": self.key, "role": self.role, "template": template}


@dataclass(frozen=True, kw_only=True)
class AccountClaims(Claims):
    """An account: a space of subjects of its own, with what crosses its border.

    Attributes:
        jetstream: whether its users may have streams.
        leaf_nodes: how many servers of sites may connect by its logins.
        allowed: what users may whose tokens name no subject.
        revoked: times by a user's public key: a token issued then or earlier is refused, its connections end.
        authorized_by: public keys of the users that decide about logins to this account (auth callout); where there
            are any, a token alone does not let a client in.
        authorizes_for: public keys of the accounts that they may let clients into.
    """

    kind = "account"
    issuers = ("account", "operator")

    exports: tuple[Export, ...] = ()
    imports: tuple[Import, ...] = ()
    jetstream: bool = False
    connections: int = NO_LIMIT
    leaf_nodes: int = 0
    allowed: Allowed = Allowed()
    scopes: tuple[Scope, ...] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)
    authorized_by: tuple[str, ...] = ()
    authorizes_for: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        stored = {"mem_storage": NO_LIMIT, "disk_storage": NO_LIMIT, "streams": NO_LIMIT, "consumer": NO_LIMIT}
        limits = {"subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT, "imports": NO_LIMIT, "exports": NO_LIMIT,
                  "wildcards": True, "conn": self.connections, "leaf": self.leaf_nodes}  # fmt: skip
        callout = _listed(auth_users=self.authorized_by, allowed_accounts=self.authorizes_for)
        return {
            **_listed(exports=[each.tree() for each in self.exports], imports=[each.tree() for each in self.imports]),
            "limits": limits | (stored if self.jetstream else {}),
            "default_permissions": self.allowed.tree(),
            **_listed(signing_keys=[each.tree() for each in self.scopes]),
            **({"revocations": dict(self.revoked)} if self.revoked else {}),
            **({"authorization": callout} if callout else {}),
        }


@dataclass(frozen=True, kw_only=True)
class UserClaims(Claims):
    """A login to the account whose key signed it.

    Attributes:
        account: public key of the account, where a signing key of it has signed; its scope says then what is allowed.
        bearer: whether the token alone lets a client in, without the user's key: MQTT clients send it as password.
        connection_types: how it may connect; empty for every way.
        tags: texts ``name:value``.
    """

    kind = "user"
    issuers = ("account",)

    account: str = ""
    allowed: Allowed = Allowed()
    bearer: bool = False
    connection_types: tuple[ConnectionType, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def renew_at(self) -> int:
        """When half of its life is over, in seconds since 1970; for a login that expires."""
        return self.issued_at + (self.expires - self.issued_at) // 2

    def body(self) -> dict[str, Any]:
        tags = _listed(tags=self.tags)
        if self.account:
            return {"issuer_account": self.account, **tags}
        return {**_user_limits(self.allowed, self.bearer, self.connection_types), **tags}


def _user_limits(allowed: Allowed, bearer: bool, connection_types: tuple[ConnectionType, ...]) -> dict[str, Any]:
    return {
        **allowed.tree(),
        "subs": NO_LIMIT,
        "data": NO_LIMIT,
        "payload": NO_LIMIT,
        **({"bearer_token": True} if bearer else {}),
        **_listed(allowed_connection_types=connection_types),
    }


def _listed(**lists: Any) -> dict[str, Any]:
    return {name: list(values) for name, values in lists.items() if values}
