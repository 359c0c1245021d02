"""The client library's client, with the changes that this transport needs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import ParseResult

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.dial import dial
from heliograph.bus.link_life import LinkLife
from heliograph.bus.link_pace import LinkPace
from heliograph.bus.nats.control_lines import ControlLineParser
from heliograph.bus.nats.web_socket import require_websockets
from heliograph.bus.proxy import Proxy
from heliograph.bus.reconnecting import Reconnecting
from heliograph.bus.socket_backlog import unacknowledged
from heliograph.bus.tls_context import TlsContext
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.core.identity.credentials import UserCredentials

_ENDS_NOTHING = "permissions violation"
PING, PONG = b"PING\r\n", b"PONG\r\n"
_NO_TLS_FIRST = ("the server does not say in TLS who it is; one that speaks first in clear text is named by "
                 "tls://…?handshake=upgrade")  # fmt: skip


class ConnectionClosed(ConnectionResetError, RuntimeError):
    """A use of a closed connection: an OSError as the library expects it, where uvloop raises a RuntimeError."""


class Connection(TcpTransport):
    """A TCP connection, directly or by a proxy, whose errors the library handles, and that is closed at once."""

    def __init__(self, proxy: Proxy | None, clock: Callable[[], float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._proxy = proxy
        self._clock = clock
        self.life: LinkLife | None = None
        """Takes note of what passes, once the connection has begun."""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        assert uri.hostname is not None and uri.port is not None
        made = await dial(uri.hostname, uri.port, self._proxy, buffer_size, connect_timeout)
        self._io_reader, self._io_writer = self._bare_io_reader, self._bare_io_writer = made

    async def connect_tls(self, *arguments: Any, **named: Any) -> None:
        """Introduce the transport to its protocol, as the library does not: only then is what arrives unread bounded,
        and asyncio prints no warning at each end of a connection."""
        await super().connect_tls(*arguments, **named)
        assert self._io_writer is not None
        transport = self._io_writer.transport
        if (protocol := transport.get_protocol()) is not None:  # else the server has closed it already
            protocol.connection_made(transport)

    @property
    def peer_certificate(self) -> Mapping[str, Any]:
        """What the peer's certificate says, as ``ssl`` tells it; nothing in clear text."""
        return (self._io_writer.get_extra_info("peercert") if self._io_writer is not None else None) or {}

    async def read(self, buffer_size: int) -> bytes:
        found = bytes(await super().read(buffer_size))
        if self.life is not None and found:
            self.life.heard(self._clock())
        return found

    async def readline(self) -> bytes:
        """Read the answer to a step of the introduction. On a slow link the server's pings come before it."""
        while (line := await self._line()) == PING:
            self.write(PONG)
        return line

    async def _line(self) -> bytes:
        return bytes(await super().readline())  # type: ignore[no-untyped-call]

    @property
    def waiting(self) -> int:
        """Bytes written that the other side's machine has not acknowledged."""
        if self._io_writer is None:
            return 0
        transport = self._io_writer.transport
        sock = transport.get_extra_info("socket")
        return transport.get_write_buffer_size() + (unacknowledged(sock) if sock is not None else 0)

    def beat(self, payload: bytes) -> None:
        """Write a heartbeat, which is no sign that the connection takes anything."""
        life, self.life = self.life, None
        try:
            self.write(payload)
        finally:
            self.life = life

    def write(self, payload: bytes) -> None:
        if self.life is not None:
            self.life.wrote(len(payload))
        try:
            super().write(payload)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConnectionClosed(str(error)) from None

    def writelines(self, payload: Sequence[bytes]) -> None:
        if self.life is not None:
            self.life.wrote(sum(map(len, payload)))
        try:
            super().writelines(payload)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConnectionClosed(str(error)) from None

    def close(self) -> None:
        """Close without sending the rest: to a peer that has gone, that takes until the kernel gives up."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def wait_closed(self) -> None:
        """Return at once: the connection is closed. After a handshake that failed, its end would reach nobody."""

    def __bool__(self) -> bool:
        return True  # the library would replace one that is not connected by its own


class HeliographClient(Client):
    """A client that speaks TLS if the URL says so, and that no error of the broker closes for good.

    Args:
        on_lost: called as soon as the connection is lost; the library's own callback comes later.
        reconnecting: decides when the next attempt to connect is due, and how long it may take.
        pace: how fast the link is.

    Attributes:
        life: that of the present connection, or of the last one; None before the first.
    """

    def __init__(
        self, url: ConnectionUrl, world: World, on_lost: Callable[[], None], reconnecting: Reconnecting, pace: LinkPace
    ) -> None:
        super().__init__()
        self._world = world
        self._reconnecting = reconnecting
        self._pace = pace
        self.life: LinkLife | None = None
        self._on_lost = on_lost
        self._url = url
        self._context = TlsContext(url.tls)
        self._credentials: UserCredentials | None = None
        self._ps = ControlLineParser(self, self._hand_over)

    @property
    def broker_certificate(self) -> Mapping[str, Any]:
        """What the broker's certificate says, as ``ssl`` tells it; nothing in clear text."""
        return self._transport.peer_certificate if isinstance(self._transport, Connection) else {}

    @property
    def clustered(self) -> bool:
        """Whether the server that was reached last says that it is one of a cluster."""
        return bool(self._server_info.get("cluster"))

    @property
    def server_id(self) -> str:
        """The id of the server that was reached last."""
        return str(self._server_info.get("server_id", ""))

    def check(self) -> None:
        """Raise Refused if the URL names TLS files that cannot be read, or a transport that is not installed."""
        if self._url.secure:
            self._context.current()
        if self._url.framed:
            require_websockets(self._url.shown)

    def sign(self, nonce: str) -> bytes:
        """Sign the server's nonce. The file of credentials is read at each connect: it may have been renewed."""
        self._credentials = self._read_credentials()
        return self._credentials.answer(nonce).encode()

    def user_token(self) -> bytes:
        """Return the token of the key that has just signed."""
        return (self._credentials or self._read_credentials()).token.encode()

    def _read_credentials(self) -> UserCredentials:
        try:
            found = self._url.credentials.read()
        except Refused as error:
            raise nats.errors.Error(str(error)) from None
        assert found is not None
        return found

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the client's tasks. Its ``close`` cancels each once, and does not end a reconnecting one."""
        tasks = [self._reconnection_task, self._reading_task, self._ping_interval_task, self._flusher_task]
        tasks += [each._wait_for_msgs_task for each in self._subs.values()]
        return [task for task in tasks if task is not None]

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context for the next handshake: a broker may require TLS of a ``nats://`` client too."""
        try:
            return self._context.current()
        except HeliographError as error:
            raise nats.errors.Error(str(error)) from None

    def _connect_command(self) -> bytes:
        """Return the CONNECT line. It contains the login: never send it in clear text if the URL asks for TLS."""
        if self._url.upgrades and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    async def _select_next_server(self) -> None:
        """Connect to the next of the URL's servers that takes a connection. The library's pauses are all the same."""
        while True:
            await self._reconnecting.pause()
            self.options["connect_timeout"] = self._reconnecting.limit
            server = self._server_pool.pop(0)
            self._server_pool.append(server)
            self._current_server = server
            try:
                await self._connect_to_server(server)
                return
            except Exception as error:
                self._note_late(error)
                self._err = error
                await self._error_cb(error)

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is None and self._url.framed:
            from heliograph.bus.nats.web_socket_connection import WebSocketConnection  # its library takes 5 MB

            self._transport = WebSocketConnection(self._url.proxy, self._world.monotonic)
        elif self._transport is None:
            self._transport = Connection(self._url.proxy, self._world.monotonic)
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Take a server's notice, without the addresses of other servers: a client reaches those that its URL lists,
        which alone have been checked to be protected."""
        info.pop("connect_urls", None)
        await super()._process_info(info, initial_connection)

    async def _process_connect_init(self) -> None:
        """Introduce the client. Raise an error that the library answers by another attempt; others end its attempts."""
        if isinstance(self._transport, Connection):
            self._transport.life = None
        began = self._world.monotonic()
        try:
            await super()._process_connect_init()
        except TimeoutError as error:
            self._note_late(error)
            raise
        except (nats.errors.Error, ssl.SSLError) as error:
            if self._url.handshakes_first and ("INFO" in str(error) or "WRONG_VERSION_NUMBER" in str(error)):
                raise nats.errors.Error(_NO_TLS_FIRST) from None
            raise
        except (ValueError, AssertionError) as error:
            raise nats.errors.Error(f"no NATS server answers: {error}") from None
        if not self.is_connected:  # the connection ended before the server's answer
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if task is not None:
                    task.cancel()
            raise nats.errors.UnexpectedEOF
        self._reconnecting.connected()
        if isinstance(self._transport, Connection):
            now = self._world.monotonic()
            if not self._pace.round_trip:
                self._pace.answered(now - began)  # a little too long: the first ping knows better
            self.life = self._transport.life = LinkLife(self._pace, self._url.patience, now)

    def look(self) -> None:
        """Note what the present connection has taken."""
        if self.life is not None and isinstance(self._transport, Connection):
            self.life.look(self._transport.waiting, self._world.monotonic())

    async def _ping_interval(self) -> None:
        """Ping, say unasked that this client lives, and end the connection once it does not. The library counts
        unanswered pings, also while what they stand behind is still passing."""
        answer: asyncio.Future[Any] | None = None
        while True:
            slept = self._world.monotonic()
            await self._world.sleep(self.options["ping_interval"])
            if not self.is_connected or self.life is None or not isinstance(self._transport, Connection):
                continue
            self.look()
            now = self._world.monotonic()
            self.life.stood(max(0.0, now - slept - self.options["ping_interval"]), now)
            if self.life.is_cut(now):
                await self._process_op_err(nats.errors.StaleConnectionError())
                return
            try:
                # the server counts unanswered pings, and the answer to one is as late as the link is long
                self._transport.beat(PONG)
                if answer is None or answer.done():
                    answer = asyncio.get_running_loop().create_future()
                    answer.add_done_callback(partial(self._answered, now))
                    self._pongs.append(answer)
                    self._transport.beat(PING)
            except OSError:  # the reading task notices it too
                continue

    def _answered(self, pinged: float, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled():
            self._pace.answered(self._world.monotonic() - pinged)

    def _note_late(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            self._reconnecting.late()

    async def _process_err(self, err_msg: str) -> None:
        """Reconnect after an error; the library would close for good after most of them, and lose its subscriptions."""
        if _ENDS_NOTHING in err_msg:
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error("nats: " + err_msg.strip("'"))
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _process_op_err(self, e: Exception) -> None:
        await super()._process_op_err(e)
        if not self.is_connected:
            self._reconnecting.lost()
            self._on_lost()

    async def _hand_over(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Hand over a message. None may end the reading task: the connection would be deaf until it is given up."""
        try:
            await self._process_msg(sid, subject, reply, data, headers)
        except Exception as error:  # its headers, for example: a publisher may write any bytes into them
            await self._error_cb(error)

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        """Bytes of a subject that are no UTF-8 become U+FFFD: its reader refuses the topic, and says so."""
        return self.msg_class(
            subject=subject.decode(errors="replace"), reply=reply.decode(errors="replace"), data=data, headers=headers,
            _client=self, _sid=sid,
        )  # fmt: skip

    async def _process_pong(self) -> None:
        """Pass over the answer to a flush that was cancelled or timed out; the library would end its reading task."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Parse header lines in a third of the library's time, which checks each character of each name."""
        found = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            name = name.strip()
            if colon and name.isascii() and len(name.split()) < 2:
                found[name.decode()] = value.strip().decode("utf-8", "replace")
        return found
