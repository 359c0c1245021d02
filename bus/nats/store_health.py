"""Which of a broker's streams store nothing any more: a write to the disk has failed, and nothing answers since.

Once a write has failed, nats-server (2.15) writes that stream no more, also where the disk has room again, until it
starts again. It gives no answer to what is published there. Its system account knows why.
"""

from __future__ import annotations

import re
from typing import Any

from heliograph.bus.nats.all_servers import ask_all
from heliograph.bus.nats.connection import NatsConnection

_FAILED = re.compile(r"stream '\S* > (\S+)' write error: (.*)", re.DOTALL)
MOST = 300
"""Characters of a reason, at most."""


async def closed_streams(system: NatsConnection) -> dict[str, str]:
    """Return, by the name of each server that has one, a stream that stores nothing any more, and why. Raise
    HeliographError where no server answers.

    Args:
        system: a connection with a login of the system account.
    """
    found = {}
    for answer in await ask_all(system, "$SYS.REQ.SERVER.PING.HEALTHZ", b"{}"):
        if failed := _FAILED.search(_error_of(answer)):
            server = answer.get("server")
            name = str(server.get("name", "")) if isinstance(server, dict) else ""
            found[name[:MOST] or "nats-server"] = f"stream {failed[1]}: {failed[2][:MOST]}"
    return found


def _error_of(answer: dict[str, Any]) -> str:
    data = answer.get("data")
    return str(data.get("error") or "") if isinstance(data, dict) else ""
