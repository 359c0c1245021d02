"""How much of what a nats-server's store may take is taken: by its streams in all, and by each bucket."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from heliograph.bus.nats.connection import NatsConnection
from heliograph.bus.transport import StoreUse
from heliograph.core.errors import HeliographError


async def bucket_use(connection: NatsConnection, streams: Iterable[tuple[str, str]]) -> list[StoreUse]:
    """Return the use of buckets that refuse what goes beyond their bound.

    Args:
        streams: name of a bucket, and of the stream behind it.
    """
    found = []
    for bucket, stream in streams:
        answer = await connection.ask(f"$JS.API.STREAM.INFO.{stream}")
        config, state = answer.get("config") or {}, answer.get("state") or {}
        if (most := int(config.get("max_msgs", -1))) > 0:
            unit = "chunks" if stream.startswith("OBJ_") else "keys"
            found.append(StoreUse(f"bucket {bucket}", int(state.get("messages", 0)), most, unit, bucket))
    return found


async def account_use(connection: NatsConnection) -> list[StoreUse]:
    """Return the use of the store by this login's account, where it has a bound of its own."""
    answer = await connection.ask("$JS.API.INFO")
    most = int((answer.get("limits") or {}).get("max_storage", -1))
    return [StoreUse("the account's store", int(answer.get("storage", 0)), most, "bytes")] if most > 0 else []


async def server_use(system: NatsConnection) -> list[StoreUse]:
    """Return the use of a server's whole store, as it tells its system account."""
    try:
        answer = json.loads((await system.request("$SYS.REQ.SERVER.PING.JSZ", b"{}")).data)
    except (HeliographError, ValueError):
        return []
    data: dict[str, Any] = answer.get("data") or {}
    most = int((data.get("config") or {}).get("max_storage", -1))
    return [StoreUse("the broker's store", int(data.get("storage", 0)), most, "bytes")] if most > 0 else []
