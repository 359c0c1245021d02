"""The door for webhooks: an event with the secret is a hint, anything else changes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from heliograph.label_studio.webhook import MAX_BODY, WebhookDoor

EVENT = {"action": "ANNOTATION_CREATED", "annotation": {"id": 1, "task": 7}, "task": {"id": 7}}


def _request(body: bytes, secret: str = "s", method: str = "POST", length: Any = None) -> bytes:
    head = f"{method} / HTTP/1.1\r\nX-Heliograph-Secret: {secret}\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("request_", "status", "hints"),
    [
        (_request(json.dumps(EVENT).encode()), 200, [7]),
        (_request(json.dumps({"task": {"id": 8}}).encode()), 200, [8]),
        (_request(json.dumps(EVENT).encode(), secret="another"), 403, []),
        (_request(b"", method="GET"), 405, []),
        (_request(b"", length=MAX_BODY + 1), 413, []),
        (_request(b"", length="-1"), 413, []),
        (_request(b"not json"), 200, []),
        (_request(b'{"annotation": {"task": "7"}}'), 200, []),
        (_request(b"[" * 100_000), 200, []),
        (b"\xff\xfe\r\n\r\n", 405, []),
        (b"POST / HTTP/1.1\r\n" + b"x" * 70_000, 400, []),
    ],
)
async def test_what_comes_through_the_door(request_: bytes, status: int, hints: list[int]) -> None:
    found: list[int] = []
    door = WebhookDoor("127.0.0.1", 0, "s", found.append)
    await door.open()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(request_)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
    finally:
        await door.close()
    assert (int(answer.split()[1]), found) == (status, hints)
