"""Encode and decode NATS's tokens (JWT v2): header, claims and Ed25519 signature, each in base64url without padding."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from heliograph.core.errors import Refused
from heliograph.core.identity.claims import Allowed, Claims, Export, Import, Scope
from heliograph.core.identity.nkeys import KeyPair, kind_of, verified

C = TypeVar("C", bound=Claims)
T = TypeVar("T")
MOST_BYTES = 1 << 20
"""Bytes of a token, at most, as for nats-server."""
VERSION = 2
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_DEPTH = 16
"""Levels of mappings and lists that claims have, at most; ours have five."""


def encode(claims: Claims, signer: KeyPair, now: float) -> str:
    """Return the signed token; ``now`` is in seconds since 1970. Raise Refused if such a key signs no such token."""
    if signer.kind not in claims.issuers:
        raise Refused("bad-token", expected=f"a key of an {' or '.join(claims.issuers)} for the token of an "
                      f"{claims.kind}", got=f"a key of an {signer.kind}")  # fmt: skip
    if kind_of(claims.subject) != claims.kind:
        raise Refused("bad-token", field="sub", expected=f"a public key of kind {claims.kind}", got=claims.subject)
    claims = replace(claims, issuer=signer.public, issued_at=int(now))
    head: dict[str, Any] = {"iat": claims.issued_at, "iss": claims.issuer, "sub": claims.subject}
    head |= {"name": claims.name} if claims.name else {}
    head |= {"exp": claims.expires} if claims.expires else {}
    tree = {**head, "nats": {**claims.body(), "type": claims.kind, "version": VERSION}}
    tree["jti"] = base64.b32encode(hashlib.sha256(_json(tree)).digest()).decode().rstrip("=")
    return signed(tree, signer)


def signed(tree: Mapping[str, Any], signer: KeyPair) -> str:
    """Return a token with these claims; for kinds of tokens that have no class here."""
    text = f"{_base64(_json(_HEADER))}.{_base64(_json(tree))}"
    return f"{text}.{_base64(signer.sign(text.encode()))}"


def decode(token: str, kind: type[C], place: str = "token") -> C:
    """Return the claims of a token whose issuer has signed it. Whether the issuer is trusted, the caller decides.

    Raise Refused, without the token, if it is no token of that kind; ``place`` names it.
    """
    tree = opened(token, place)
    found = tree.get("nats")
    if not isinstance(found, dict) or found.get("type") != kind.kind or found.get("version") != VERSION:
        got = f"type {found.get('type')}, version {found.get('version')}" if isinstance(found, dict) else "no claims"
        raise Refused("bad-token", topic=place, field="nats", expected=f"claims of an {kind.kind}, version {VERSION}",
                      got=got)  # fmt: skip
    read = _Reader(tree, place)
    head: dict[str, Any] = {
        "subject": read.text("sub"), "issuer": read.text("iss"), "name": read.text("name"),
        "expires": read.number("exp"), "issued_at": read.number("iat"),
    }  # fmt: skip
    if kind_of(head["subject"]) != kind.kind:
        raise Refused("bad-token", topic=place, field="sub", expected=f"a public key of an {kind.kind}",
                      got=head["subject"])  # fmt: skip
    if kind_of(head["issuer"]) not in kind.issuers:
        raise Refused("bad-token", topic=place, field="iss", expected=f"a public key of an {' or '.join(kind.issuers)}",
                      got=head["issuer"])  # fmt: skip
    return kind(**head, **_BODIES[kind.kind](_Reader(found, place)))


def opened(token: str, place: str = "token") -> dict[str, Any]:
    """Return all that a token claims, whatever its kind, if its issuer has signed it. Raise Refused if not."""
    if len(token) > MOST_BYTES:
        raise Refused("bad-token", topic=place, expected=f"at most {MOST_BYTES} bytes", got=f"{len(token)} bytes")
    parts = token.split(".")
    if len(parts) != 3:
        raise Refused("bad-token", topic=place, expected="three parts with dots between", got=f"{len(parts)} parts")
    header, tree = _tree(parts[0], "its header", place), _tree(parts[1], "its claims", place)
    if (str(header.get("typ")).upper(), str(header.get("alg")).lower()) != (_HEADER["typ"], _HEADER["alg"]):
        raise Refused("bad-token", topic=place, field="alg", expected=_HEADER["alg"], got=header.get("alg"))
    issuer = tree.get("iss")
    signature = _bytes(parts[2])
    text = token.rpartition(".")[0].encode()
    if not isinstance(issuer, str) or signature is None or not verified(issuer, signature, text):
        raise Refused("bad-token", topic=place, expected="the signature of its issuer", got="another one",
                      hint="It was changed or cut off; get it anew.")  # fmt: skip
    return tree


class _Reader:
    """Reads typed values of a mapping. A missing value is the empty one of its type."""

    def __init__(self, tree: Mapping[str, Any], place: str) -> None:
        self._tree = tree
        self._place = place

    def text(self, name: str) -> str:
        return self._typed(name, "", str)

    def flag(self, name: str) -> bool:
        return self._typed(name, False, bool)

    def number(self, name: str) -> int:
        value = self._typed(name, 0, int)
        if isinstance(value, bool) or not -1 <= value < 1 << 53:
            raise self._refused(name, "a whole number", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._typed(name, [], list)
        if not all(isinstance(each, str) for each in found):
            raise self._refused(name, "a list of texts", found)
        return tuple(found)

    def inner(self, name: str) -> _Reader:
        return _Reader(self._typed(name, {}, dict), self._place)

    def inners(self, name: str) -> list[_Reader]:
        found = self._typed(name, [], list)
        if not all(isinstance(each, dict) for each in found):
            raise self._refused(name, "a list of mappings", found)
        return [_Reader(each, self._place) for each in found]

    def numbers(self, name: str) -> dict[str, int]:
        found = self._typed(name, {}, dict)
        return {key: _Reader(found, self._place).number(key) for key in found}

    def one_of(self, name: str, *allowed: str, default: str = "") -> Any:
        value = self.text(name) or default
        if value not in allowed:
            raise self._refused(name, " or ".join(allowed), value)
        return value

    def _typed(self, name: str, missing: T, kind: type[T]) -> T:
        value = self._tree.get(name)
        if value is None:
            return missing
        if not isinstance(value, kind):
            raise self._refused(name, f"a value of type {kind.__name__}", value)
        return value

    def _refused(self, name: str, expected: str, got: object) -> Refused:
        return Refused("bad-token", topic=self._place, field=name, expected=expected, got=got)


def _operator(read: _Reader) -> dict[str, Any]:
    return {"system_account": read.text("system_account")}


def _account(read: _Reader) -> dict[str, Any]:
    limits, callout = read.inner("limits"), read.inner("authorization")
    return {
        "exports": tuple(_export(each) for each in read.inners("exports")),
        "imports": tuple(
            Import(each.text("subject"), each.one_of("type", "stream", "service"), each.text("account"),
                   each.flag("share")) for each in read.inners("imports")
        ),
        "jetstream": limits.number("disk_storage") != 0,
        "connections": limits.number("conn"),
        "leaf_nodes": limits.number("leaf"),
        "allowed": _allowed(read.inner("default_permissions")),
        "scopes": tuple(_scope(each) for each in read.inners("signing_keys")),
        "revoked": read.numbers("revocations"),
        "authorized_by": callout.texts("auth_users"),
        "authorizes_for": callout.texts("allowed_accounts"),
    }  # fmt: skip


def _export(read: _Reader) -> Export:
    response = read.one_of("response_type", "Singleton", "Stream", default="Singleton")
    return Export(read.text("subject"), read.one_of("type", "stream", "service"), response)


def _scope(read: _Reader) -> Scope:
    return Scope(key=read.text("key"), role=read.text("role"), **_limits(read.inner("template")))


def _user(read: _Reader) -> dict[str, Any]:
    return {"account": read.text("issuer_account"), "tags": read.texts("tags"), **_limits(read)}


def _limits(read: _Reader) -> dict[str, Any]:
    return {"allowed": _allowed(read), "bearer": read.flag("bearer_token"),
            "connection_types": read.texts("allowed_connection_types")}  # fmt: skip


def _allowed(read: _Reader) -> Allowed:
    publish, subscribe = read.inner("pub"), read.inner("sub")
    return Allowed(publish.texts("allow"), subscribe.texts("allow"), publish.texts("deny"), subscribe.texts("deny"),
                   read.inner("resp").number("max") != 0)  # fmt: skip


_BODIES: dict[str, Callable[[_Reader], dict[str, Any]]] = {"operator": _operator, "account": _account, "user": _user}


def _tree(part: str, what: str, place: str) -> dict[str, Any]:
    raw = _bytes(part)
    try:
        tree = json.loads(raw) if raw is not None and _depth(raw) <= _DEPTH else None
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise Refused("bad-token", topic=place, expected=f"{what} as base64url of a JSON mapping", got="something else")
    return tree


def _depth(raw: bytes) -> int:
    """Return a bound of how deep the values lie: text in strings counts too."""
    deepest = level = 0
    for byte in raw:
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def _json(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
