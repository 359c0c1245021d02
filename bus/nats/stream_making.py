"""Make a stream or update it, with as many replicas as the coordinator's option says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.bus.nats.connection import NatsConnection, NoRoom, has_no_room
from heliograph.core.errors import HeliographError, Unreachable

REPLICAS = (1, 3, 5)
"""Numbers of replicas: a majority of an even number is no smaller than that of the next odd one."""
STORE_ATTEMPTS, HINDERED_WAIT = 10, 0.1
"""Attempts to create a stream while nats-server cannot make its directory."""
_STORE_HINDERED = "error creating store"
_STREAM_DIFFERS = 10058
"""JetStream's error code for a stream that exists with another configuration."""
_TOO_FEW_SERVERS = (10005, 10074)
"""JetStream's codes for fewer servers than replicas, and for replicas at a server without a cluster."""
_KEPT = ("num_replicas", "persist_mode")
"""What an update of a stream leaves as it is: the first is the coordinator's to decide, and the server never changes
the second one."""
_ASYNC = "async"


class TooFewServers(Unreachable):
    """The broker's cluster has fewer servers than a stream is to have replicas; others may start."""


async def ensure_stream(connection: NatsConnection, config: Mapping[str, Any], what: str = "") -> bool:
    """Create a stream, or update it if it differs but for its replicas. Return False where it is there, and stays as it
    is because the broker has no room: then it refuses every creation and change, also an empty one.

    Raise NoRoom where it is missing, TooFewServers where the cluster is too small for it.

    Args:
        what: its name in errors.
    """
    name = config["name"]
    what = what or f"stream {name}"
    replicas = connection.replicas or 1
    wanted = {**config, "num_replicas": replicas}
    if replicas > 1:
        wanted.pop("persist_mode", None)  # the server refuses a replicated stream that acknowledges before it stores
    for _ in range(STORE_ATTEMPTS):  # an account's first two streams may hinder each other, made at once
        answer = await connection.ask(f"$JS.API.STREAM.CREATE.{name}", wanted)
        if _STORE_HINDERED not in answer.get("error", {}).get("description", ""):
            break
        await connection.world.sleep(HINDERED_WAIT)
    if answer.get("error", {}).get("err_code") == _STREAM_DIFFERS:
        present = await connection.stream_config(name) or {}
        kept = {key: present[key] for key in _KEPT if key in present}
        changed = {key: value for key, value in wanted.items() if key not in _KEPT}
        answer = await connection.ask(f"$JS.API.STREAM.UPDATE.{name}", {**changed, **kept})
    if "error" not in answer:
        return True
    if not has_no_room(answer):
        raise refusal(answer, what, replicas)
    if await connection.stream_config(name) is None:
        raise NoRoom(f"{what}: {answer['error'].get('description')}")
    return False


async def set_replicas(connection: NatsConnection) -> list[str]:
    """Give every stream and bucket as many replicas as the coordinator's option says. Return the names of streams that
    have to keep one.

    Raise TooFewServers where the cluster is too small.
    """
    left: list[str] = []
    if not connection.replicas or (connection.replicas == 1 and not connection.clustered):
        return left
    for config in await _own_streams(connection):
        name = config["name"]
        if config.get("num_replicas", 1) == connection.replicas:
            continue
        if connection.replicas > 1 and acknowledges_early(config):
            left.append(name)
            continue
        await change_replicas(connection, config)
    return left


async def change_replicas(connection: NatsConnection, config: Mapping[str, Any]) -> None:
    """Give a stream the replicas that the option says. Raise TooFewServers where the cluster is too small."""
    name = config["name"]
    changed = {**config, "num_replicas": connection.replicas}
    answer = await connection.ask(f"$JS.API.STREAM.UPDATE.{name}", changed)
    if "error" in answer:
        raise refusal(answer, f"stream {name}", connection.replicas)


def acknowledges_early(config: Mapping[str, Any]) -> bool:
    """Return whether a stream acknowledges before it stores: then it has one server, and no change gives it more."""
    return bool(config.get("persist_mode") == _ASYNC)


def refusal(answer: Mapping[str, Any], what: str, replicas: int) -> HeliographError:
    """Return the error for JetStream's refusal to make or change a stream."""
    error = answer["error"]
    if error.get("err_code") not in _TOO_FEW_SERVERS:
        return HeliographError(f"{what}: {error.get('description')}")
    return TooFewServers(
        f"{what}: {replicas} replicas need as many nats-servers with JetStream in one cluster, and fewer answer "
        f"({error.get('description')}). Start the others, or start the coordinator with fewer --replicas"
    )


async def _own_streams(connection: NatsConnection) -> list[dict[str, Any]]:
    """Return the configurations of the account's streams below the root. Raise Unreachable while one has no leader."""
    prefix = connection.subjects.stream_name("")
    beginnings = (prefix, f"KV_{prefix}", f"OBJ_{prefix}")
    found, leaderless = await connection.streams()
    if leaderless:
        raise Unreachable(f"{connection.url.shown}: no server leads {', '.join(leaderless[:3])} yet")
    return [each["config"] for each in found if each["config"]["name"].startswith(beginnings)]
