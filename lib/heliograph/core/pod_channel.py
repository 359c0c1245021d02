"""The channel between an agent and a worker's pod on its node: a Unix socket in a directory that both see.

A message is a JSON object behind its length, four bytes, most significant first. The pod begins with ``hello``; the
agent answers ``launch``, ``signal`` and ``refused``; the pod answers ``line`` and ``exit``. A side that does not know a
key ignores it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heliograph.core.errors import Refused

PROTOCOL = 1
"""Version of the channel; both sides have the same one."""
SOCKET = "agent.sock"
"""Name of the socket in the worker's directory."""
SECRET = "secret"
"""Name of the file with a launch's secret there: the agent writes it, the pod reads and deletes it."""
DIRECTORY_VARIABLE = "HELIOGRAPH_POD_DIRECTORY"
"""The environment variable of a pod with the worker's directory, the same path on the node and in the pod."""
IDENTITY_VARIABLE = "HELIOGRAPH_POD"
"""The environment variable of a pod with its identity: an agent hands a worker to no other pod."""
MAX_MESSAGE = 512 * 1024
"""Bytes of a message, at most."""
MAX_LINE = 65536
"""Characters of a printed line, at most."""


def packed(message: dict[str, Any]) -> bytes:
    """Return a message as it is sent. Raise Refused where it is too large."""
    body = json.dumps(message).encode()
    if len(body) > MAX_MESSAGE:
        raise Refused("too-large", field="message", expected=f"at most {MAX_MESSAGE} bytes", got=f"{len(body)} bytes")
    return len(body).to_bytes(4, "big") + body


class Unpacker:
    """Puts the messages together again that a stream of bytes has; it holds one message at most, and what was fed."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that are complete now. Raise Refused for what is no message, or too large."""
        self._waiting += data
        found = []
        while len(self._waiting) >= 4:
            size = int.from_bytes(self._waiting[:4], "big")
            if size > MAX_MESSAGE:
                raise Refused("too-large", field="message", expected=f"at most {MAX_MESSAGE} bytes",
                              got=f"{size} bytes")  # fmt: skip
            if len(self._waiting) < 4 + size:
                break
            found.append(_message(bytes(self._waiting[4 : 4 + size])))
            del self._waiting[: 4 + size]
        return found


@contextlib.contextmanager
def socket_path(directory: Path) -> Iterator[str]:
    """Yield a path of the directory's socket that is short enough for any directory: the kernel takes 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def _message(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused("invalid", field="message", expected="a JSON object", got=body[:80])
    return found
