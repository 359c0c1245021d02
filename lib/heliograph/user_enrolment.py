"""A user's side of identity: make a key, enrol by an invitation, keep the login in files, and renew it.

    DIRECTORY/login.creds    the token with the user's private key
    DIRECTORY/ca.pem         certificates by which clients know the cloud's broker; only with TLS
    DIRECTORY/cluster.json   names both, for the command line (HELIOGRAPH_SERVER) and ``heliograph.Client``
"""

from __future__ import annotations

import json
from pathlib import Path

from heliograph.bus.connection_url import ConnectionUrl, with_user
from heliograph.bus.contract.enrolment_requests import IssuedUserLogin, renewal_bytes, user_enrolment_bytes
from heliograph.bus.contract.permissions import NEWCOMER
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.enrolment import AUTHORITIES, LOGIN, TIMEOUT, broker_of, signed
from heliograph.requester import Requester
from heliograph.server import Server

CLUSTER = "cluster.json"


async def enroll_user(token: InvitationToken, directory: Path, world: World, root: str = DEFAULT_ROOT) -> Path:
    """Make a key, get a login for it, and write the user's files; return the one that names them. A user that asks
    again by the same invitation keeps the key.

    Raises:
        Refused: where the cloud refuses, or the invitation's address is no broker's.
        Unreachable: where the cloud does not answer.
    """
    make_private(directory)
    server, waiting = broker_of(token, directory), directory / "key.seed"
    if not waiting.exists():  # kept until the answer is: one that was lost is asked for again
        write_private(waiting, KeyPair("user", world.new_secret()).seed)
    key, at = KeyPair.from_seed(waiting.read_text(), str(waiting)), int(world.now())
    signature = signed(token.key, user_enrolment_bytes(token.name, key.public, at))
    body = {"name": token.name, "key": key.public, "at": at, "signature": signature}
    login = await _asked(server, "enroll", body, root)
    _write_login(directory, login, key)
    tree = {"user": login.user, "server": token.server.partition("?")[0], "credentials": LOGIN}
    file = directory / CLUSTER
    write_private(file, json.dumps(tree | ({"ca": AUTHORITIES} if login.authorities or token.authorities else {})))
    waiting.unlink()
    return file


async def renew_if_due(server: Server, world: World, root: str = DEFAULT_ROOT) -> bool:
    """Renew the login of a server's file of credentials once half of its time is over; return whether it was. A login
    that never expires, and one that cannot be renewed now but is good still, stay.

    Raises:
        Refused: where the cloud refuses and the login has expired.
        Unreachable: where the cloud does not answer, and it has.
    """
    file = ConnectionUrl.parse(server.url).credentials.file
    if file is None or not file.is_file():
        return False
    before, now = UserCredentials.read(file), world.now()
    claims = before.claims
    if before.key is None or not claims.expires or now < (claims.issued_at + claims.expires) / 2:
        return False
    at = int(now)
    body = {"token": before.token, "at": at, "signature": signed(before.key, renewal_bytes(before.token, at))}
    try:
        _write_login(file.parent, await _asked(server.url, "renew", body, root), before.key)
    except HeliographError:
        if now >= claims.expires:
            raise
        return False
    return True


async def _asked(server: str, verb: str, body: dict[str, object], root: str) -> IssuedUserLogin:
    async with Requester(Server(with_user(server, NEWCOMER)), root, TIMEOUT, TIMEOUT, 0.0) as requester:
        return IssuedUserLogin.model_validate(await requester.request("users", verb, body), extra="ignore")


def _write_login(directory: Path, login: IssuedUserLogin, key: KeyPair) -> None:
    claims = decode(login.token, UserClaims, "the cloud's answer")
    if claims.subject != key.public:
        raise Refused("bad-token", field="token", expected=f"a login for {key.public}", got=f"one for {claims.subject}")
    UserCredentials(login.token, claims, key).write(directory / LOGIN)
    if login.authorities:
        write_private(directory / AUTHORITIES, login.authorities)
