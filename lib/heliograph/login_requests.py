"""The requests by which nodes and users get a login and renew it, over a connection as a newcomer."""

from __future__ import annotations

import base64

from pydantic import ValidationError

from heliograph.bus.connection_url import ConnectionUrl, with_user
from heliograph.bus.contract.enrolment_requests import IssuedLogin, renewal_bytes
from heliograph.bus.contract.permissions import NEWCOMER
from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode
from heliograph.core.world import World
from heliograph.login_files import write_login
from heliograph.requester import Requester
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
    return await _asked(server, plural, "enroll", body, root)


async def renewed(url: str, plural: str, world: World, root: str) -> UserClaims:
    """Renew the login of a URL with a file of credentials: the one that there is may have expired. Return the claims of
    the new one.

    Raises:
        Refused: where the cloud refuses, since the login was revoked, for example.
        Unreachable: where it does not answer.
    """
    file = ConnectionUrl.parse(url).credentials.file
    assert file is not None
    before = UserCredentials.read(file)
    assert before.key is not None
    at = int(world.now())
    body = {"token": before.token, "at": at, "signature": _signed(before.key, renewal_bytes(before.token, at))}
    login = await _asked(url, plural, "renew", body, root)
    _check_signer(login, before.claims)
    return write_login(file.parent, login, before.key)


async def _asked(server: str, plural: str, verb: str, body: dict[str, object], root: str) -> IssuedLogin:
    async with Requester(Server(with_user(server, NEWCOMER)), root, TIMEOUT, TIMEOUT, 0.0) as requester:
        answer = await requester.request(plural, verb, body)
    try:
        return IssuedLogin.model_validate(answer, extra="ignore")
    except ValidationError as error:  # whoever can answer a request sends what he likes
        raise refusal_of(error, f"the answer to {plural}/{verb}") from None


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
