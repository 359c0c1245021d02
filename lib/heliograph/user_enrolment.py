"""A user's side of identity: make a key, enrol by an invitation, keep the login in files, and renew it.

Beside the files of every login (``login_files``) a user has ``cluster.json``, which names them for the command line
(HELIOGRAPH_SERVER) and ``heliograph.Client``.
"""

from __future__ import annotations

import json
from pathlib import Path

from heliograph.bus.contract.enrolment_requests import user_enrolment_bytes
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import HeliographError
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.login_files import AUTHORITIES, LOGIN, broker_of, waiting_key, write_login
from heliograph.login_requests import enrolled, renewed

CLUSTER = "cluster.json"


async def enroll_user(token: InvitationToken, directory: Path, world: World, root: str = DEFAULT_ROOT) -> Path:
    """Make a key, get a login for it, and write the user's files; return the one that names them.

    Raises:
        Refused: where the cloud refuses, or the invitation's address is no broker's.
        Unreachable: where the cloud does not answer.
    """
    make_private(directory)
    server, key, at = broker_of(token, directory), waiting_key(directory, world), int(world.now())
    data = user_enrolment_bytes(token.name, key.public, at)
    login = await enrolled(server, "users", token.name, token.key, key, at, data, root)
    write_login(directory, login, key)
    tree = {"user": login.name, "server": token.server.partition("?")[0], "credentials": LOGIN}
    file = directory / CLUSTER
    write_private(file, json.dumps(tree | ({"ca": AUTHORITIES} if login.authorities or token.authorities else {})))
    return file


async def renew_user(url: str, before: UserClaims, world: World, root: str = DEFAULT_ROOT) -> None:
    """Renew the login of a URL whose renewal is due. One that cannot be renewed now, and is good still, stays.

    Raises:
        Refused: where the cloud refuses and the login has expired.
        Unreachable: where the cloud does not answer, and it has.
    """
    try:
        await renewed(url, "users", world, root)
    except HeliographError:
        if world.now() >= before.expires:
            raise
