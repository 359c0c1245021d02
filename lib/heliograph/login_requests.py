"""The requests by which nodes and users get a login and renew it: over a connection as a newcomer, and an edge whose
login is good still over its own."""

from __future__ import annotations

import base64
import json

from pydantic import ValidationError

from heliograph.bus.connection_url import ConnectionUrl, with_user
from heliograph.bus.contract.enrolment_requests import IssuedLogin, renewal_bytes
from heliograph.bus.contract.permissions import NEWCOMER, agent_of
from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.topics import RENEWAL
from heliograph.bus.transport import Bus
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode
from heliograph.core.world import World
from heliograph.login_files import write_login
from heliograph.requester import Requester, result_of
from heliograph.server import Server

TIMEOUT = 10.0
"""Seconds for an answer of the cloud."""


async def enrolled(
    server: str, plural: str, name: str, signer: KeyPair, key: KeyPair, at: int, data: bytes, root: str, **more: str
) -> IssuedLogin:  # fmt: skip
    """Return the login that an invitation gives.

    Args:
        plural: ``invitations`` or ``users``.
        name: the invitation's.
        signer: the invitation's key, which signs ``data``.
        key: the key that gets the login.

    Raises:
        Refused: where the cloud refuses.
        Unreachable: where it does not answer.
    """
    body = {"name": name, "key": key.public, "at": at, "signature": _signed(signer, data), **more}
    return _login_in(await _asked(server, plural, "enroll", body, root), f"{plural}/enroll")


async def renewed(url: str, plural: str, world: World, root: str) -> UserClaims:
    """Renew the login of a URL with a file of credentials: the one that there is may have expired. Return the claims of
    the new one.

    Raises:
        Refused: where the cloud refuses, since the login was revoked, for example.
        Unreachable: where it does not answer.
    """
    before, body = _renewal(url, world)
    login = _login_in(await _asked(url, plural, "renew", body, root), f"{plural}/renew")
    return _taken(url, before, login)


async def renewed_by_edge(bus: Bus, url: str, world: World) -> UserClaims:
    """Renew the login of an edge over its own connection, by whatever server that leads. Return the claims of the new
    login.

    Args:
        url: has the file of the login with which ``bus`` is connected.

    Raises:
        Refused: where the cloud refuses, or the login is no edge's.
        Unreachable: where it does not answer; Forbidden where the server does not know such a request of edges.
    """
    before, body = _renewal(url, world)
    if not (edge := agent_of(before.claims.name)):
        raise Refused("bad-credentials", topic=url, expected="the login of an edge", got=before.claims.name)
    topic = RENEWAL.at(edge=edge)
    answer = await bus.request(topic, json.dumps(body).encode(), TIMEOUT)
    return _taken(url, before, _login_in(result_of(answer.body), topic))


def _renewal(url: str, world: World) -> tuple[UserCredentials, dict[str, object]]:
    """Return the login that there is, and the body of the request to renew it."""
    file = ConnectionUrl.parse(url).credentials.file
    assert file is not None
    before = UserCredentials.read(file)
    assert before.key is not None
    at = int(world.now())
    signature = _signed(before.key, renewal_bytes(before.token, at))
    return before, {"token": before.token, "at": at, "signature": signature}


def _taken(url: str, before: UserCredentials, login: IssuedLogin) -> UserClaims:
    """Write a renewed login to the file of the URL, in place of the one before."""
    file = ConnectionUrl.parse(url).credentials.file
    assert file is not None and before.key is not None
    _check_signer(login, before.claims)
    return write_login(file.parent, login, before.key)


async def _asked(server: str, plural: str, verb: str, body: dict[str, object], root: str) -> object:
    async with Requester(Server(with_user(server, NEWCOMER)), root, TIMEOUT, TIMEOUT, 0.0) as requester:
        return await requester.request(plural, verb, body)


def _login_in(answer: object, topic: str) -> IssuedLogin:
    try:
        return IssuedLogin.model_validate(answer, extra="ignore")
    except ValidationError as error:  # whoever can answer a request sends what he likes
        raise refusal_of(error, f"the answer to {topic}") from None


def _check_signer(login: IssuedLogin, before: UserClaims) -> None:
    """Raise Refused unless whoever signed the login before has signed this one, and not earlier: anybody who can answer
    a request could send another cloud's, or an older one that trusts a key which was replaced since."""
    claims = decode(login.token, UserClaims, "the cloud's answer")
    if claims.issuer != before.issuer:
        raise Refused("bad-token", field="token", expected=f"a login that {before.issuer} has signed",
                      got=f"one of {claims.issuer}", hint="If the cloud was made anew, enrol again.")  # fmt: skip
    if claims.issued_at < before.issued_at:
        raise Refused("bad-token", field="token", expected=f"a login issued at {before.issued_at} or later",
                      got=f"one issued at {claims.issued_at}")  # fmt: skip


def _signed(key: KeyPair, data: bytes) -> str:
    return base64.urlsafe_b64encode(key.sign(data)).decode().rstrip("=")
