"""A bulk connection to NATS: one transfer at a time, blocking sockets in a thread, no copy between socket and file.

The event-loop client copies every payload several times, which at 100 MB costs more than the network does. A bulk
link speaks the few verbs of the NATS client protocol that a transfer needs (docs.nats.io, "Client Protocol").
"""

from __future__ import annotations

import json
import select
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.dial import dial_socket
from heliograph.bus.holder_silences import SILENCE
from heliograph.bus.link_pace import LinkPace
from heliograph.bus.nats.patient_socket import BEAT, PatientSocket, reader_of
from heliograph.core.errors import Forbidden, HeliographError, Unreachable
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.bus.nats.web_socket import WebSocketSocket

TIMEOUT = 5.0
"""Seconds without a byte after which the link counts as cut, where it is fast."""
_RECEIVE = 1 << 18
_REFUSALS = ("permissions violation", "authorization violation", "authentication revoked")
"""What the broker says to a login that may not do something, or that it does not take."""
_LAST_WORDS = 0.2
"""Seconds to wait for the broker's last lines on a closed connection."""


@dataclass(slots=True)
class Delivery:
    """A message's headers, and the size in bytes of its payload, which ``read_into`` has yet to read."""

    headers: dict[str, str]
    size: int


class Unanswered(Unreachable):
    """Whoever was asked sends nothing."""


class BulkLink:
    """A connection for one transfer at a time; ``inbox`` receives its messages.

    Raises Forbidden if the broker refuses, even if it then closes the connection; Unreachable if the link is cut.

    Args:
        pace: that of the link, which all connections of a bus share.
    """

    def __init__(
        self, url: ConnectionUrl, inbox: str = "", pace: LinkPace | None = None, world: World | None = None
    ) -> None:
        self.pace = pace or LinkPace()
        self.clock = (world or World()).monotonic
        self.inbox = ""
        self._subscription = 0
        """Number of the subscription of ``inbox``; messages of earlier ones may still come."""
        self._closing = False
        self._tcp, self._host = _connected(url, TIMEOUT + self.pace.allowance())
        self._patient = self._patient_socket()
        self._socket: PatientSocket | WebSocketSocket = self._patient
        self._in = reader_of(self._socket, _RECEIVE)
        try:
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._log_in(url)
            self._patient.beat = self._beat
            if inbox:
                self.listen(inbox)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise Unreachable(f"bulk link: {error}") from None
            raise

    def _log_in(self, url: ConnectionUrl) -> None:
        if url.handshakes_first or url.scheme == "wss":
            self._shake_hands(url)
        if url.framed:
            from heliograph.bus.nats.web_socket import WebSocketSocket

            self._socket = WebSocketSocket(self._patient, f"{url.scheme}://{url.addresses[0]}{url.path}")
            self._in = reader_of(self._socket, _RECEIVE)
        info = json.loads(self._line().removeprefix(b"INFO "))
        if url.upgrades or (info.get("tls_required") and not url.secure and not url.framed):
            self._shake_hands(url)
        self.max_payload: int = info["max_payload"]
        hello: dict[str, object] = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True,
                                    "lang": "python", "version": "1", "name": "bulk", "protocol": 1}  # fmt: skip
        hello |= url.credentials.of_nats(info.get("nonce", ""))
        self._send(b"CONNECT " + json.dumps(hello).encode() + b"\r\nPING\r\n")
        while not (line := self._line()).startswith(b"PONG"):
            self._take_note(line)

    def _shake_hands(self, url: ConnectionUrl) -> None:
        self._tcp.settimeout(TIMEOUT + self.pace.allowance())
        self._tcp = url.tls.context().wrap_socket(self._tcp, server_hostname=self._host)
        self._socket = self._patient = self._patient_socket()
        self._in = reader_of(self._socket, _RECEIVE)

    def _patient_socket(self) -> PatientSocket:
        return PatientSocket(self._tcp, self.pace, TIMEOUT, self.clock)

    def _beat(self) -> None:
        """Say unasked that this client lives: on a long link the answers to the broker's pings are late."""
        if self._patient.has_room:
            self._socket.sendall(b"PONG\r\n")

    def close(self) -> None:
        self._in.close()
        self._tcp.close()

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as this end knows."""
        arrived = select.poll()
        arrived.register(self._tcp, select.POLLIN)
        if not arrived.poll(0):
            return True
        self._tcp.settimeout(0)
        try:
            return bool(self._in.peek(1))
        except ssl.SSLWantReadError:  # a session ticket, say: bytes of TLS alone
            return True
        except OSError:
            return False
        finally:
            self._tcp.settimeout(BEAT)

    def begin(self) -> None:
        """Begin a transfer: the silence before it was no wait."""
        self._patient.begin()

    def listen(self, inbox: str) -> None:
        """Receive the messages of a subject from now on, and those of the subject before no longer."""
        ended = f"UNSUB {self._subscription}\r\n" if self._subscription else ""
        self._subscription += 1
        self.inbox = inbox
        self._send(f"{ended}SUB {inbox} {self._subscription}\r\n".encode())

    def post(self, subject: str, payload: bytes) -> None:
        """Publish, and expect no answer."""
        self._send(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def post_part(self, subject: str, header: str, file: BinaryIO, start: int, size: int) -> None:
        """Publish a part of a file with one header line, without a copy in this process. Raise OSError where the file
        has become shorter."""
        head = f"NATS/1.0\r\n{header}\r\n\r\n"
        try:
            self._socket.sendall(f"HPUB {subject} {len(head)} {len(head) + size}\r\n{head}".encode())
            sent = self._socket.sendfile(file, start, size)
            self._socket.sendall(b"\r\n")
        except OSError as error:
            self._raise_refusal(error)
            raise Unreachable(f"bulk link: {error}") from None
        if sent != size:
            raise OSError(f"the file ends at byte {start + sent}")

    def flush(self) -> None:
        """Return once the broker has taken all that was sent; answer its pings meanwhile."""
        self._send(b"PING\r\n")
        while not (line := self._line()).startswith(b"PONG"):
            if line.startswith((b"MSG ", b"HMSG ")):
                self._exactly(int(line.split()[-1]) + 2)  # of an earlier transfer
            else:
                self._take_note(line)

    def publish(self, subject: str, payload: memoryview | bytes, header: str = "") -> None:
        """Publish, with one header line if given; the inbox receives the answer, such as a stream's
        acknowledgement."""
        if header:
            head = f"NATS/1.0\r\n{header}\r\n\r\n"
            start = f"HPUB {subject} {self.inbox} {len(head)} {len(head) + len(payload)}\r\n{head}"
        else:
            start = f"PUB {subject} {self.inbox} {len(payload)}\r\n"
        self._send(start.encode(), payload, b"\r\n")

    def next(self, silence: float = SILENCE) -> Delivery:
        """Wait for the next message and return its headers; read its payload before the next call. Raise Unanswered
        after so many seconds in which the broker pings and no message comes."""
        began = self.clock()
        while True:
            line = self._line()
            if not line.startswith((b"MSG ", b"HMSG ")):
                self._take_note(line)
                if self.clock() - began > silence + self.pace.allowance():
                    raise Unanswered("bulk link: whoever was asked does not answer")
                continue
            fields = line.split()
            found = Delivery({}, int(fields[-1]))
            if line.startswith(b"HMSG "):
                head = int(fields[-2])
                found = Delivery(_headers(self._exactly(head).decode("utf-8", "replace")), int(fields[-1]) - head)
            if int(fields[2]) == self._subscription:
                return found
            self.payload(found)  # of an earlier transfer

    def _take_note(self, line: bytes) -> None:
        """Answer a ping; raise the error of a refusal."""
        if line.startswith(b"PING"):
            self._send(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise _refusal(line)

    def read_into(self, target: memoryview) -> None:
        """Fill ``target`` with the payload of the message that ``next`` returned."""
        at = 0
        try:
            while at < len(target):
                count = self._in.readinto(target[at:])
                if not count:
                    raise Unreachable("bulk link: the broker closed the connection")
                at += count
        except OSError as error:
            raise Unreachable(f"bulk link: {error}") from None
        self._exactly(2)

    def payload(self, delivery: Delivery) -> bytes:
        data = bytearray(delivery.size)
        self.read_into(memoryview(data))
        return bytes(data)

    def _send(self, *parts: memoryview | bytes) -> None:
        try:
            for each in parts:
                self._socket.sendall(each)
        except OSError as error:
            self._raise_refusal(error)
            raise Unreachable(f"bulk link: {error}") from None

    def _raise_refusal(self, error: OSError) -> None:
        """Raise Forbidden if the broker sent a refusal before it closed the connection, and it is still unread."""
        if self._closing or isinstance(error, TimeoutError):
            return
        self._closing = True
        self._patient.hurried = True
        self._tcp.settimeout(_LAST_WORDS)
        try:
            while True:
                self.payload(self.next())
        except Forbidden:
            raise
        except (HeliographError, OSError, ValueError):
            return

    def _line(self) -> bytes:
        try:
            line = self._in.readline(1 << 16)
        except OSError as error:
            raise Unreachable(f"bulk link: {error}") from None
        if not line:
            raise Unreachable("bulk link: the broker closed the connection")
        return line

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._in.read(size)
        except OSError as error:
            raise Unreachable(f"bulk link: {error}") from None
        if len(data) < size:
            raise Unreachable("bulk link: the broker closed the connection")
        return data


def _connected(url: ConnectionUrl, seconds: float) -> tuple[socket.socket, str]:
    """Return a connection to the first server of the URL that takes one, and the server's host. Raise Unreachable."""
    reasons = []
    for (host, port), address in zip(url.places, url.addresses, strict=True):
        try:
            return dial_socket(host, port, url.proxy, seconds), host
        except OSError as error:
            reasons.append(f"{address}: {error}" if url.others else str(error))
    raise Unreachable(f"bulk link: {'; '.join(reasons)}")


def _refusal(line: bytes) -> HeliographError:
    """Return the error for an ``-ERR`` line."""
    reason = line.decode(errors="replace").removeprefix("-ERR").strip()
    lower = reason.lower()
    if any(each in lower for each in _REFUSALS):
        return Forbidden(f"the broker refused the transfer: {reason}")
    # a login that expires ends its connections; the next one has a renewed login, or is refused
    if any(each in lower for each in ("stale connection", "timeout", "shutdown", "authentication expired")):
        return Unreachable(f"bulk link: {reason}")
    return HeliographError(f"the broker refused the transfer: {reason}")


def _headers(raw: str) -> dict[str, str]:
    first, *lines = raw.split("\r\n")
    found = {}
    if status := first.removeprefix("NATS/1.0").strip():
        code, _, text = status.partition(" ")
        found = {"Status": code, "Description": text}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            found[name] = value.strip()
    return found
