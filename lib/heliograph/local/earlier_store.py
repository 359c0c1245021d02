"""The store of a cloud's broker as versions before 0.2 left it: every stream in one account of a fixed name."""

from __future__ import annotations

import contextlib
from pathlib import Path

EARLIER = "HELIOGRAPH"
_OF_MQTT = "$MQTT_"


def adopt(store: Path, core: str, door: str) -> None:
    """Move the streams of an earlier version to the accounts that have them now: those in which the server keeps what
    MQTT clients send to ``door``, the others to ``core``.

    A stream that an account has already stays where it is. An interrupted move goes on at the next start.
    """
    before = store / "jetstream" / EARLIER / "streams"
    for stream in sorted(before.iterdir()) if before.is_dir() else ():
        account = door if stream.name.startswith(_OF_MQTT) else core
        now = store / "jetstream" / account / "streams" / stream.name
        now.parent.mkdir(parents=True, exist_ok=True)
        if not now.exists():
            stream.rename(now)
    with contextlib.suppress(OSError):  # there is none, or a stream has stayed
        before.rmdir()
        before.parent.rmdir()
