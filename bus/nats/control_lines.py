"""Read the NATS client protocol with the separators that the broker uses.

The broker lets a subject be any bytes but spaces, tabs and line ends. The library's parser splits at every white space:
a vertical tab in a subject gave its message to another subscription, or ended the connection.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

MAX_LINE = 1 << 20
"""Bytes of a control line, at most: INFO names every server of a cluster."""
_MSG = ord("M")


class ControlLineParser(Parser):
    """A parser for the library's client.

    Args:
        client: handles what it finds.
        hand_over: takes each message: subscription, subject, reply, payload and headers.
    """

    def __init__(self, client: Any, hand_over: Callable[..., Awaitable[None]]) -> None:
        super().__init__(client)
        self._hand_over = hand_over

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes from the broker. Raise ProtocolError where they are not the protocol."""
        buffer = self.buf
        buffer.extend(data)
        while buffer:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(buffer) < self.needed + 2:
                    return
                head, needed, found = self.header_needed, self.needed, self.msg_arg
                headers = bytes(buffer[:head]) if head else None
                payload = bytes(buffer[head:needed])
                del buffer[: needed + 2]
                self.state, self.header_needed = AWAITING_CONTROL_LINE, 0
                await self._hand_over(found["sid"], found["subject"], found["reply"], payload, headers)
                continue
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > MAX_LINE:
                    raise ProtocolError("nats: a control line is too long")
                return
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if line.startswith((b"MSG ", b"HMSG ")):
                self._expect_payload(line)
            else:
                await self._take_line(line)

    def _expect_payload(self, line: bytes) -> None:
        """Note subject, subscription, reply and sizes of the message whose payload follows."""
        words = line.split(b" ")
        if b"" in words:  # the broker's own messages have two spaces where the reply would be
            words = [word for word in words if word]
        sizes = 1 if line[0] == _MSG else 2
        try:
            if len(words) not in (3 + sizes, 4 + sizes):
                raise ValueError
            reply = words[3] if len(words) == 4 + sizes else b""
            self.msg_arg = {"subject": words[1], "sid": int(words[2]), "reply": reply}
            self.header_needed = int(words[-2]) if sizes == 2 else 0
            self.needed = int(words[-1])
        except ValueError:
            raise ProtocolError("nats: malformed MSG") from None
        self.state = AWAITING_MSG_PAYLOAD

    async def _take_line(self, line: bytes) -> None:
        client: Any = self.nc
        operation, _, rest = line.partition(b" ")
        if operation == b"PING":
            await client._process_ping()
        elif operation == b"PONG":
            await client._process_pong()
        elif operation == b"-ERR":
            await client._process_err(rest.strip().decode(errors="replace").lower())
        elif operation == b"INFO":
            try:
                info = json.loads(rest)
            except ValueError:
                raise ProtocolError("nats: malformed INFO") from None
            await client._process_info(info)
        elif operation != b"+OK":
            raise ProtocolError("nats: unknown protocol")
