"""Decide about clients without a token (NATS's auth callout): anonymous ones are let in, a wrong password is refused.

A broker in operator mode treats a password that is no token like none. So whoever comes without a token lands in an
account, ``GUESTS``, whose logins this decides; who has one is let in by the broker alone, whether this runs or not.
The keys here sign for anonymous clients, and for nobody else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.msg import Msg

from heliograph.bus.connection_url import ConnectionUrl, with_credentials
from heliograph.bus.contract.permissions import ANONYMOUS
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.link import Link
from heliograph.bus.nats.connection import NatsConnection
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
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
    """

    credentials: Path
    door: str
    answering: KeyPair = field(repr=False)
    admitting: KeyPair = field(repr=False)

    @classmethod
    def read(cls, file: Path) -> CalloutKeys:
        """Read a file that ``write`` has written. Raise Refused, which shows no secret, if it is none."""
        try:
            with file.open("rb") as source:
                tree = json.loads(source.read(_MOST_BYTES))
            texts = [tree[name] for name in ("credentials", "door", "answering", "admitting")]
            if not all(isinstance(each, str) for each in texts):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Refused("bad-credentials", topic=str(file), expected="keys of an auth callout", got="none",
                          hint="The authority of the broker writes it.") from None  # fmt: skip
        seeds = [KeyPair.from_seed(text, str(file)) for text in texts[2:]]
        return cls(Path(texts[0]), texts[1], *seeds)

    def write(self, file: Path) -> None:
        tree = {"credentials": str(self.credentials), "door": self.door, "answering": self.answering.seed,
                "admitting": self.admitting.seed}  # fmt: skip
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
        if is_anonymous(asked.get("connect_opts")):
            claims = UserClaims(subject=user, name=ANONYMOUS, account=self.door)
            decision = {"jwt": encode(claims, self.admitting, now)}
        else:
            decision = {"error": "no such login, or a wrong password"}
        return signed(
            {"iat": int(now), "iss": self.answering.public, "sub": user, "aud": str(server.get("id")),
             "nats": {**decision, "type": "authorization_response", "version": 2}}, self.answering,
        ).encode()  # fmt: skip


def is_anonymous(options: object) -> bool:
    """Return whether a client that came with these options has sent no login at all."""
    return isinstance(options, Mapping) and not any(options.get(name) for name in _LOGIN)


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
