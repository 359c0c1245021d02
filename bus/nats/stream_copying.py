"""Give replicas to a stream that acknowledges before it stores: make it anew, with all that it has.

nats-server changes no such stream, and renames none. So the messages go into a copy with replicas, and from there into
a new stream of the former name. Each time the receiving stream is a mirror of the other, which keeps numbers and times,
until it has everything and takes the subjects. At no time do two streams have them; between the two, for some
milliseconds, none has: what is published then and waits for no acknowledgement is not stored.

Whatever ends a coordinator on the way, the next one sees from the streams how far it came, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.bus.nats.connection import NatsConnection, has_no_room
from heliograph.bus.nats.stream_making import acknowledges_early, refusal
from heliograph.core.errors import Unreachable

_COPY = "-COPY"
_PARKED = "-PARKED"
_LOOK_EVERY = 0.05
"""Seconds between two looks at a mirror: it tells nobody when it has everything."""
_STUCK_AFTER = 10.0
"""Seconds in which a mirror has to receive something; one that needs longer has lost the server it copies from."""
_DECIDED_LATER = ("subjects", "persist_mode", "max_bytes", "allow_atomic")
"""What a mirror has not, or not yet: a bound in bytes would be set aside a second time."""


async def replicate_by_copy(connection: NatsConnection, config: Mapping[str, Any]) -> None:
    """Make a stream anew with the option's replicas where nats-server cannot change it, and end what was begun so. The
    stream has no bound in bytes then. Leave it as it is where the servers have no room for a copy.

    Raise TooFewServers where the cluster is too small, Unreachable where a server that is needed does not answer.

    Args:
        config: what the stream is to be, but for its replicas.
    """
    name = config["name"]
    copy = name + _COPY
    present, begun = await connection.stream_config(name), await connection.stream_config(copy)
    if present is not None and acknowledges_early(present) and (begun is not None or connection.replicas > 1):
        if not await _hand_over(connection, name, copy, config):
            return
        await _delete(connection, name)
    elif begun is None:
        return
    if await _hand_over(connection, copy, name, config):
        await _delete(connection, copy)


async def _hand_over(connection: NatsConnection, source: str, target: str, config: Mapping[str, Any]) -> bool:
    """Let a stream take messages and subjects of another. Return False where there is no room for it, or the servers
    are too old: then the other one is as it was."""
    mirror = {key: value for key, value in config.items() if key not in _DECIDED_LATER}
    mirror |= {"name": target, "num_replicas": connection.replicas or 1}
    if (present := await connection.stream_config(target)) is None:
        made = await connection.ask(f"$JS.API.STREAM.CREATE.{target}", {**mirror, "mirror": {"name": source}})
        if has_no_room(made):
            return False
        if "error" in made:
            raise refusal(made, f"stream {target}", connection.replicas)
    elif "mirror" not in present:  # a coordinator that came before has got this far
        return True
    await _until_equal(connection, source, target)  # most of it, while the other one still takes what is published
    await _set_subjects(connection, source, [source + _PARKED])
    await _until_equal(connection, source, target)
    promoted = {**mirror, "num_replicas": (await _info(connection, target))["config"].get("num_replicas", 1),
                "subjects": config["subjects"], "mirror_direct": False}  # fmt: skip
    if "error" not in await connection.ask(f"$JS.API.STREAM.UPDATE.{target}", promoted):
        return True
    await _set_subjects(connection, source, config["subjects"])
    await _delete(connection, target)
    return False


async def _until_equal(connection: NatsConnection, source: str, target: str) -> None:
    """Wait until a mirror has all that its source has now."""
    world = connection.world
    newest, until = -1, world.monotonic() + _STUCK_AFTER
    while True:
        wanted, there = [(await _info(connection, name))["state"] for name in (source, target)]
        if there["last_seq"] >= wanted["last_seq"] or not wanted["messages"]:
            return
        if there["last_seq"] > newest:
            newest, until = there["last_seq"], world.monotonic() + _STUCK_AFTER
        if world.monotonic() >= until:
            has = f"{there['last_seq']} of {wanted['last_seq']}"
            raise Unreachable(f"{connection.url.shown}: stream {target} waits for messages of {source}, of which it"
                              f" has {has}; start the server that keeps them")  # fmt: skip
        await world.sleep(_LOOK_EVERY)


async def _set_subjects(connection: NatsConnection, name: str, subjects: list[str]) -> None:
    config = (await _info(connection, name))["config"]
    if config.get("subjects") != subjects:
        answer = await connection.ask(f"$JS.API.STREAM.UPDATE.{name}", {**config, "subjects": subjects})
        if "error" in answer:
            raise refusal(answer, f"stream {name}", connection.replicas)


async def _info(connection: NatsConnection, name: str) -> dict[str, Any]:
    """Return what the broker says of a stream. Raise Unreachable while it says nothing: the next attempt looks anew."""
    answer = await connection.ask(f"$JS.API.STREAM.INFO.{name}")
    if "error" in answer:
        raise Unreachable(f"stream {name}: {answer['error'].get('description')}")
    return answer


async def _delete(connection: NatsConnection, name: str) -> None:
    answer = await connection.ask(f"$JS.API.STREAM.DELETE.{name}")
    if "error" in answer and await connection.stream_config(name) is not None:
        raise refusal(answer, f"stream {name}", connection.replicas)
