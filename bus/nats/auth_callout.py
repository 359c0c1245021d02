"""Decide about clients without a token (NATS's auth callout): who may read, who may ask for a login, who is refused.

A broker in operator mode treats a password that is no token like none. So whoever comes without a token lands in an
account, ``GUESTS``, whose logins this decides; who has one is let in by the broker alone, whether this runs or not.
The keys here sign for anonymous clients and for newcomers, and for nobody else.

Who has sent nothing and comes from the broker's machine is anonymous. Who has sent the user ``newcomer`` and nothing
else is a node that asks for a login. All others have sent a wrong password.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.msg import Msg

from heliograph.bus.connection_url import ConnectionUrl, is_loopback, with_credentials
from heliograph.bus.contract.permissions import ANONYMOUS, NEWCOMER
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.link import Link
from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import NATS_CONNECTIONS, UserClaims
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import encode, opened, signed
from heliograph.core.private_files import write_private
from heliograph.core.world import World

SUBJECT = "$SYS.REQ.USER.AUTH"
_QUEUE = "callout"
_MOST_BYTES = 64 * 1024
_LOGIN = ("user", "pass", "auth_token", "nkey", "sig")
"""What a client sends to log in, as the server's request names it; the token in it is the one for guests."""


@dataclass(frozen=True)
class CalloutKeys:
    """What the callout needs. ``repr`` shows no secret.

    Attributes:
        credentials: file of the login to GUESTS that takes the server's requests.
        door: public key of DOOR, which anonymous clients are let into.
        answering: key of GUESTS, which signs the answers.
        admitting: key of DOOR that signs for anonymous clients.
        enrolling: key of ENROL, which signs for newcomers.
    """

    credentials: Path
    door: str
    answering: KeyPair = field(repr=False)
    admitting: KeyPair = field(repr=False)
    enrolling: KeyPair = field(repr=False)

    @classmethod
    def read(cls, file: Path) -> CalloutKeys:
        """Read a file that ``write`` has written. Raise Refused, which shows no secret, if it is none."""
        try:
            with file.open("rb") as source:
                tree = json.loads(source.read(_MOST_BYTES))
            texts = [tree[name] for name in ("credentials", "door", "answering", "admitting", "enrolling")]
            if not all(isinstance(each, str) for each in texts):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Refused("bad-credentials", topic=str(file), expected="keys of an auth callout", got="none",
                          hint="The authority of the broker writes it.") from None  # fmt: skip
        seeds = [KeyPair.from_seed(text, str(file)) for text in texts[2:]]
        return cls(Path(texts[0]), texts[1], *seeds)

    def write(self, file: Path) -> None:
        tree = {"credentials": str(self.credentials), "door": self.door, "answering": self.answering.seed,
                "admitting": self.admitting.seed, "enrolling": self.enrolling.seed}  # fmt: skip
        write_private(file, json.dumps(tree))

    def answer(self, request: bytes, now: float) -> bytes:
        """Return the answer to a server's request, a token; see https://docs.nats.io, "Auth Callout". Raise Refused if
        no server has signed the request."""
        tree = opened(request[: _MOST_BYTES + 1].decode("ascii", "replace"), SUBJECT)
        asked = tree.get("nats")
        user, server = (asked.get("user_nkey"), asked.get("server_id")) if isinstance(asked, dict) else (None, None)
        if not isinstance(user, str) or not isinstance(server, dict):
            raise Refused("bad-token", topic=SUBJECT, expected="an authorization request", got="something else")
        assert isinstance(asked, dict)
        decision = self._decision(user, asked.get("connect_opts"), _host_of(asked.get("client_info")), now)
        return signed(
            {"iat": int(now), "iss": self.answering.public, "sub": user, "aud": str(server.get("id")),
             "nats": {**decision, "type": "authorization_response", "version": 2}}, self.answering,
        ).encode()  # fmt: skip

    def _decision(self, user: str, options: object, host: str, now: float) -> dict[str, str]:
        if is_newcomer(options):
            claims = UserClaims(subject=user, name=NEWCOMER, connection_types=NATS_CONNECTIONS)
            return {"jwt": encode(claims, self.enrolling, now)}
        if not is_anonymous(options):
            return {"error": "no such login, or a wrong password"}
        if not is_loopback(host):
            return {"error": "no login, and a client of another machine needs one"}
        return {"jwt": encode(UserClaims(subject=user, name=ANONYMOUS, account=self.door), self.admitting, now)}


def is_newcomer(options: object) -> bool:
    """Return whether a client that came with these options asks for a login."""
    return _sent(options) == {"user": NEWCOMER}


def is_anonymous(options: object) -> bool:
    """Return whether a client that came with these options has sent no login at all."""
    return _sent(options) == {}


def _sent(options: object) -> dict[str, object] | None:
    """Return what of a login a client has sent; None where that cannot be read."""
    if not isinstance(options, Mapping):
        return None
    return {name: value for name in _LOGIN if (value := options.get(name))}


def _host_of(client: object) -> str:
    host = client.get("host") if isinstance(client, Mapping) else None
    return host if isinstance(host, str) else ""


class AuthCallout:
    """Answers the server's requests. Several may run: the server asks one of them.

    Args:
        url: NATS URL of the broker; its login is not used.
    """

    def __init__(self, url: str, keys: CalloutKeys, world: World) -> None:
        own = ConnectionUrl.parse(with_credentials(url, keys.credentials))
        self._keys = keys
        self._world = world
        self._connection = NatsConnection(own, Subjects("heliograph"), world, Link(), "callout")
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled."""
        connection = self._connection
        await connection.open()
        try:
            await connection.link.wait_up()
            await connection.guard(connection.client.subscribe(SUBJECT, queue=_QUEUE, cb=self._answer))
            await connection.settle()
            self.listening.set()
            await asyncio.Event().wait()  # the client subscribes again at each reconnect
        finally:
            await connection.close()

    async def _answer(self, message: Msg) -> None:
        await message.respond(self._keys.answer(message.data, self._world.now()))
