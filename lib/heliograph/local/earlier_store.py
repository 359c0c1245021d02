"""The store of a cloud's broker whose accounts have other keys now: versions before 0.2 kept every stream in one
account of a fixed name, and an authority that was lost or stolen is made anew."""

from __future__ import annotations

import contextlib
from pathlib import Path

_OF_MQTT = "$MQTT_"


def adopt(store: Path, core: str, door: str) -> None:
    """Move the streams of accounts that are no more to those that have them now: the streams in which the server keeps
    what MQTT clients send to ``door``, the others to ``core``. The server does not run meanwhile.

    A stream that an account has already stays where it is. An interrupted move goes on at the next start.
    """
    accounts = store / "jetstream"
    for before in sorted(accounts.iterdir()) if accounts.is_dir() else ():
        if before.name in (core, door) or not (before / "streams").is_dir():
            continue
        for stream in sorted((before / "streams").iterdir()):
            account = door if stream.name.startswith(_OF_MQTT) else core
            now = accounts / account / "streams" / stream.name
            now.parent.mkdir(parents=True, exist_ok=True)
            if not now.exists():
                stream.rename(now)
        with contextlib.suppress(OSError):  # a stream has stayed
            (before / "streams").rmdir()
            before.rmdir()
