"""The files of whoever has enrolled, a node or a user: the login, and whom it trusts.

    DIRECTORY/login.creds     the token with its holder's private key
    DIRECTORY/key.seed        the key that an answer is waited for; only while enrolling
    DIRECTORY/ca.pem          certificates by which the cloud's broker is known; only with TLS
    DIRECTORY/cloud-keys.pem  public keys of whoever signs what the cloud wants of a node
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from heliograph.bus.connection_url import NATS, ConnectionUrl
from heliograph.bus.contract.enrolment_requests import IssuedLogin, trust_tag
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode
from heliograph.core.private_files import write_private
from heliograph.core.world import World

LOGIN, AUTHORITIES, CLOUD_KEYS = "login.creds", "ca.pem", "cloud-keys.pem"
_WAITING = "key.seed"


def kept_key(directory: Path) -> KeyPair | None:
    """Return the key of the login that there is; None without one."""
    file = directory / LOGIN
    return UserCredentials.read(file).key if file.exists() else None


def waiting_key(directory: Path, world: World) -> KeyPair:
    """Return a new key, which is kept until ``write_login``: whoever asks again, since the answer was lost, has to be
    the same."""
    file = directory / _WAITING
    if not file.exists():
        write_private(file, KeyPair("user", world.new_secret()).seed)
    return KeyPair.from_seed(file.read_text(), str(file))


def write_login(directory: Path, login: IssuedLogin, key: KeyPair) -> UserClaims:
    """Write a login and whom it trusts; return its claims. Raise Refused for one of another key, or with other
    authorities and keys than the token names: whoever can answer a request could send them."""
    claims = decode(login.token, UserClaims, "the cloud's answer")
    if claims.subject != key.public:
        raise Refused("bad-token", field="token", expected=f"a login for {key.public}", got=f"one for {claims.subject}")
    if trust_tag(login.authorities, login.cloud_keys) not in claims.tags:
        raise Refused("bad-token", field="cloud_keys", expected="the authorities and keys that the login names",
                      got="others")  # fmt: skip
    UserCredentials(login.token, claims, key).write(directory / LOGIN)
    write_trusted(directory, login.authorities, login.cloud_keys)
    (directory / _WAITING).unlink(missing_ok=True)
    return claims


def write_trusted(directory: Path, authorities: str, cloud_keys: str) -> None:
    """Write whom the holder trusts, but nothing that is empty."""
    for name, text in ((AUTHORITIES, authorities), (CLOUD_KEYS, cloud_keys)):
        if text:
            write_private(directory / name, text)


def broker_of(token: InvitationToken, directory: Path) -> str:
    """Return the URL of an invitation's broker without a login, and write the certificates that it needs."""
    url = ConnectionUrl.parse(token.server, "invitation", schemes=NATS)
    url.require_protection("invitation")
    if not token.authorities:
        return token.server
    write_trusted(directory, token.authorities, "")
    return f"{token.server.partition('?')[0]}?ca={quote(str(directory / AUTHORITIES), safe='/')}"
