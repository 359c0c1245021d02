"""A node's side of identity: make a key, enrol by an invitation, keep the login in files, and renew it.

Beside the files of every login (``login_files``) a node has ``cloud.json``: the edge's name, and the URL of the cloud
with the files that it needs.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract.enrolment_requests import IssuedLogin, enrolment_bytes
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.transport import Bus
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.private_files import make_private, write_private
from heliograph.core.world import World
from heliograph.login_files import LOGIN, broker_of, kept_key, waiting_key, write_login

CLOUD_FILE = "cloud.json"


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
    token: InvitationToken, edge: str, directory: Path, world: World, root: str = DEFAULT_ROOT, *, node: str = ""
) -> Enrolment:  # fmt: skip
    """Make a key, get a login for it, and write the node's files. A node that has enrolled keeps its key, unless
    that was revoked.

    Args:
        node: name of the machine that ``edge`` is made of (``edge_of_node``), for the cloud to keep.

    Raises:
        Refused: where the cloud refuses, or the invitation's address is no broker's.
        Unreachable: where the cloud does not answer.
    """
    make_private(directory)
    server, kept = broker_of(token, directory), kept_key(directory)
    key = kept or waiting_key(directory, world)
    try:
        login = await _asked(server, token, edge, key, world, root, node)
    except Refused as error:
        if kept is None or error.code != "revoked":
            raise
        key = waiting_key(directory, world)
        login = await _asked(server, token, edge, key, world, root, node)
    write_login(directory, login, key)
    made = Enrolment(edge, with_credentials(server, directory / LOGIN))
    made.write(directory)
    return made


async def renew(url: str, world: World, root: str = DEFAULT_ROOT, bus: Bus | None = None) -> int:
    """Renew the login of a URL. Return when the next renewal is due, in seconds since 1970.

    An edge whose login is good asks over its own connection. One whose login has expired asks as a newcomer.

    Args:
        bus: the edge's own connection; None where there is none.

    Raises:
        Refused: where the cloud refuses, since the login was revoked, for example.
        Unreachable: where it does not answer.
    """
    from heliograph.login_requests import renewed, renewed_by_edge

    if bus is not None and bus.link.up:
        with contextlib.suppress(Unreachable):  # the link may have ended, with the login
            return (await renewed_by_edge(bus, url, world)).renew_at
    return (await renewed(url, "invitations", world, root)).renew_at


async def _asked(
    server: str, token: InvitationToken, edge: str, key: KeyPair, world: World, root: str, node: str
) -> IssuedLogin:  # fmt: skip
    from heliograph.login_requests import enrolled  # a client of NATS, which the files need not

    at = int(world.now())
    data, more = enrolment_bytes(token.name, edge, key.public, at, node), {"node": node} if node else {}
    return await enrolled(server, "invitations", token.name, token.key, key, at, data, root, edge=edge, **more)
