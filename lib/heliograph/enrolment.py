"""A node's side of identity: make a key, enrol by an invitation, keep the login in files, and renew it.

    DIRECTORY/login.creds   the token with the node's private key
    DIRECTORY/ca.pem        certificates by which the node knows the cloud's broker; only with TLS
    DIRECTORY/cloud-keys.pem public keys of whoever signs what the cloud wants of the node
    DIRECTORY/cloud.json    the edge's name, and the URL of the cloud with both files
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from heliograph.bus.connection_url import NATS, ConnectionUrl, with_credentials, with_user
from heliograph.bus.contract.enrolment_requests import IssuedLogin, enrolment_bytes, renewal_bytes, trust_tag
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
from heliograph.requester import Requester
from heliograph.server import Server

LOGIN, AUTHORITIES, CLOUD_KEYS, CLOUD_FILE = "login.creds", "ca.pem", "cloud-keys.pem", "cloud.json"
TIMEOUT = 10.0
"""Seconds for an answer of the cloud."""


@dataclass(frozen=True)
class Enrolment:
    """What a node's files say: the edge's name, and the URL by which its agent reaches the cloud."""

    edge: str
    cloud: str

    @classmethod
    def read(cls, directory: Path) -> Enrolment | None:
        """Read a node's files; None where it has not enrolled. Raise HeliographError if they are damaged."""
        file = directory / CLOUD_FILE
        try:
            tree = json.loads(file.read_text())
            return cls(str(tree["edge"]), str(tree["cloud"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise HeliographError(f"{file} is damaged; enrol again: heliograph enroll") from None

    def write(self, directory: Path) -> None:
        """Write what ``read`` reads."""
        write_private(directory / CLOUD_FILE, json.dumps({"edge": self.edge, "cloud": self.cloud}))


async def enroll(
    token: InvitationToken, edge: str, directory: Path, world: World, root: str = DEFAULT_ROOT
) -> Enrolment:  # fmt: skip
    """Make a key, get a login for it, and write the node's files. A node that has enrolled keeps its key, unless
    that was revoked.

    Raises:
        Refused: where the cloud refuses, or the invitation's address is no broker's.
        Unreachable: where the cloud does not answer.
    """
    make_private(directory)
    server = broker_of(token, directory)
    key, kept = KeyPair("user", world.new_secret()), _kept_key(directory)
    try:
        login = await _ask_to_enroll(server, token, edge, kept or key, world, root)
    except Refused as error:
        if kept is None or error.code != "revoked":
            raise
        kept, login = None, await _ask_to_enroll(server, token, edge, key, world, root)
    _write_login(directory, login, kept or key)
    enrolled = Enrolment(edge, with_credentials(server, directory / LOGIN))
    enrolled.write(directory)
    return enrolled


async def renew(url: str, world: World, root: str = DEFAULT_ROOT) -> int:
    """Renew the login of a URL with a file of credentials, by a connection as a newcomer: the login that there is
    may have expired. Return when the next renewal is due, in seconds since 1970.

    Raises:
        Refused: where the cloud refuses, since the login was revoked, for example.
        Unreachable: where the cloud does not answer.
    """
    file = ConnectionUrl.parse(url).credentials.file
    assert file is not None
    before = UserCredentials.read(file)
    assert before.key is not None
    at = int(world.now())
    body = {"token": before.token, "at": at, "signature": signed(before.key, renewal_bytes(before.token, at))}
    login = await _asked(url, "renew", body, root)
    _check_signer(login, before.claims)
    _write_login(file.parent, login, before.key)
    return login.renew_at


async def _ask_to_enroll(
    server: str, token: InvitationToken, edge: str, key: KeyPair, world: World, root: str
) -> IssuedLogin:  # fmt: skip
    at = int(world.now())
    signature = signed(token.key, enrolment_bytes(token.name, edge, key.public, at))
    body = {"name": token.name, "edge": edge, "key": key.public, "at": at, "signature": signature}
    return await _asked(server, "enroll", body, root)


async def _asked(server: str, verb: str, body: dict[str, object], root: str) -> IssuedLogin:
    async with Requester(Server(with_user(server, NEWCOMER)), root, TIMEOUT, TIMEOUT, 0.0) as requester:
        return IssuedLogin.model_validate(await requester.request("invitations", verb, body), extra="ignore")


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


def _write_login(directory: Path, login: IssuedLogin, key: KeyPair) -> None:
    claims = decode(login.token, UserClaims, "the cloud's answer")
    if claims.subject != key.public:
        raise Refused("bad-token", field="token", expected=f"a login for {key.public}", got=f"one for {claims.subject}")
    if trust_tag(login.authorities, login.cloud_keys) not in claims.tags:
        raise Refused("bad-token", field="cloud_keys", expected="the authorities and keys that the login names",
                      got="others")  # fmt: skip
    UserCredentials(login.token, claims, key).write(directory / LOGIN)
    write_trusted(directory, login.authorities, login.cloud_keys)


def write_trusted(directory: Path, authorities: str, cloud_keys: str) -> None:
    """Write whom the node trusts, but nothing that is empty."""
    for name, text in ((AUTHORITIES, authorities), (CLOUD_KEYS, cloud_keys)):
        if text:
            write_private(directory / name, text)


def broker_of(token: InvitationToken, directory: Path) -> str:
    """Return the URL of an invitation's broker without a login, and write the certificates that it needs."""
    url = ConnectionUrl.parse(token.server, "invitation", schemes=NATS)
    url.require_protection("invitation")
    if not token.authorities:
        return token.server
    write_private(directory / AUTHORITIES, token.authorities)
    return f"{token.server.partition('?')[0]}?ca={quote(str(directory / AUTHORITIES), safe='/')}"


def _kept_key(directory: Path) -> KeyPair | None:
    file = directory / LOGIN
    return UserCredentials.read(file).key if file.exists() else None


def signed(key: KeyPair, data: bytes) -> str:
    return base64.urlsafe_b64encode(key.sign(data)).decode().rstrip("=")
