"""The broker's protocol: its own parser and the library's agree on what a broker sends, in pieces of any size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from heliograph.bus.nats.control_lines import ControlLineParser


class Client:
    """What a parser has found."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    async def take(self, *message: Any) -> None:
        self.found.append(message)

    _process_msg = take

    async def _process_err(self, line: str) -> None:
        self.found.append(line)

    async def _process_ping(self) -> None:
        self.found.append("ping")

    async def _process_pong(self) -> None:
        self.found.append("pong")

    async def _process_info(self, info: Any) -> None:
        self.found.append(info)


LINES = (
    b"MSG a.b 1 2\r\nhi\r\n", b"MSG a.b 12 _INBOX.x 0\r\n\r\n", b"MSG $SYS.a 3  5\r\n12345\r\n", b"PING\r\n",
    b"PONG\r\n", b"+OK\r\n", b"-ERR 'Permissions Violation for Publish to \"a b\"'\r\n",
    b'INFO {"server_id":"x","n":1}\r\n',
    b"HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", b"HMSG a 1 _R.x 12 12\r\nNATS/1.0\r\n\r\n\r\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES)), st.integers(1, 40))
async def test_it_finds_what_the_librarys_parser_finds(lines: list[bytes], size: int) -> None:
    theirs, ours = Client(), Client()
    library, parser = Parser(theirs), ControlLineParser(ours, ours.take)
    data = b"".join(lines)
    for at in range(0, len(data), size):
        await parser.parse(data[at : at + size])
    await library.parse(data)
    assert ours.found == theirs.found


async def test_only_spaces_separate() -> None:
    ours = Client()
    await ControlLineParser(ours, ours.take).parse(b"MSG a\x0b7\xff\x0c 1 b\x0b2 2\r\nhi\r\n")
    assert ours.found == [(1, b"a\x0b7\xff\x0c", b"b\x0b2", b"hi", None)]


@pytest.mark.parametrize(
    "line", [b"MSG a 1", b"MSG a b 1", b"MSG a 1 b c 2", b"x", b"INFO {", b"HMSG a 1 2", b"", b"MSG a 1 x"]
)
async def test_anything_else_is_no_protocol(line: bytes) -> None:
    ours = Client()
    with pytest.raises(ProtocolError):
        await ControlLineParser(ours, ours.take).parse(line + b"\r\n")
