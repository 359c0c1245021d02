"""Read the NATS client protocol with the separators that the broker uses.

The broker lets a subject be any bytes but spaces, tabs and line ends. The library's parser splits at every white space:
a vertical tab in a subject gave its message to another subscription, or ended the connection.
"""

from __future__ import annotations

import json
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

MAX_LINE = 1 << 20
"""Bytes of a control line, at most: INFO names every server of a cluster."""
_END = b"\r\n"


class ControlLineParser(Parser):
    """A parser for the library's client. ``nc`` handles what it finds."""

    async def parse(self, data: bytes = b"") -> None:
        """Take the next bytes from the broker. Raise ProtocolError where they are not the protocol."""
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(self.buf) < self.needed + len(_END):
                    return
                await self._take_payload()
                continue
            end = self.buf.find(_END)
            if end < 0:
                if len(self.buf) > MAX_LINE:
                    raise ProtocolError("nats: a control line is too long")
                return
            line = bytes(self.buf[:end])
            del self.buf[: end + len(_END)]
            await self._take_line(line)

    async def _take_line(self, line: bytes) -> None:
        client: Any = self.nc
        words = [word for word in line.split(b" ") if word]
        operation = words[0] if words else b""
        if operation == b"MSG":
            self._expect_payload(words, sizes=1)
        elif operation == b"HMSG":
            self._expect_payload(words, sizes=2)
        elif operation == b"PING":
            await client._process_ping()
        elif operation == b"PONG":
            await client._process_pong()
        elif operation == b"-ERR":
            await client._process_err(line[4:].strip().decode(errors="replace").lower())
        elif operation == b"INFO":
            try:
                info = json.loads(line[4:])
            except ValueError:
                raise ProtocolError("nats: malformed INFO") from None
            await client._process_info(info)
        elif operation != b"+OK":
            raise ProtocolError("nats: unknown protocol")

    def _expect_payload(self, words: list[bytes], sizes: int) -> None:
        """Note subject, subscription, reply and sizes of the message whose payload follows."""
        if len(words) not in (3 + sizes, 4 + sizes) or not all(map(bytes.isdigit, (words[2], *words[-sizes:]))):
            raise ProtocolError("nats: malformed MSG")
        reply = words[3] if len(words) == 4 + sizes else b""
        self.msg_arg = {"subject": words[1], "sid": int(words[2]), "reply": reply}
        self.header_needed = int(words[-2]) if sizes == 2 else 0
        self.needed = int(words[-1])
        self.state = AWAITING_MSG_PAYLOAD

    async def _take_payload(self) -> None:
        whole = bytes(self.buf[: self.needed])
        del self.buf[: self.needed + len(_END)]
        head, self.header_needed = self.header_needed, 0
        self.state = AWAITING_CONTROL_LINE
        found, client = self.msg_arg, self.nc
        await client._process_msg(
            found["sid"], found["subject"], found["reply"], whole[head:] if head else whole, whole[:head] or None
        )
