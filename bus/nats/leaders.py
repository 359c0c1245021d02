"""Let one server of a cluster lead every stream, and the cluster itself.

A round waits for all streams that it writes to. Spread over three servers each of them leads some, so that each one's
end costs an election of 4 to 9 s, the longest of several. Gathered at one server, the end of any other costs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from heliograph.bus.nats.connection import NatsConnection

_STEP_DOWN = "$JS.API.STREAM.LEADER.STEPDOWN"
_META_STEP_DOWN = "$JS.API.META.LEADER.STEPDOWN"


async def gather_leaders(accounts: Sequence[NatsConnection], system: NatsConnection | None) -> int:
    """Ask the leaders of all replicated streams to step down for the server that leads most of them. Return how many
    streams it did not lead: a server that is not current refuses, and a stream that elects is asked the next time.

    Args:
        accounts: a connection of each account.
        system: a connection of the system account, which the leader of the cluster listens to.

    Raises:
        Unreachable: where no server answers, or leads the cluster.
    """
    led = [(connection, await _leaders(connection)) for connection in accounts]
    counted = Counter(leader for _, streams in led for leader in streams.values() if leader)
    if not counted:
        return 0
    most = max(counted.values())
    chosen = min(server for server, number in counted.items() if number == most)
    elsewhere = 0
    wanted = {"placement": {"preferred": chosen}}
    for connection, streams in led:
        for name, leader in streams.items():
            elsewhere += leader != chosen
            if leader and leader != chosen:
                await connection.ask(f"{_STEP_DOWN}.{name}", wanted)
    if system is not None:
        await system.ask(_META_STEP_DOWN, wanted)  # it answers with an error where it leads already
    return elsewhere


async def _leaders(connection: NatsConnection) -> dict[str, str]:
    """Return the leader of each stream with replicas by the stream's name; empty for none at present."""
    found, leaderless = await connection.streams()
    return dict.fromkeys(leaderless, "") | {
        each["config"]["name"]: str((each.get("cluster") or {}).get("leader") or "")
        for each in found if each["config"].get("num_replicas", 1) > 1
    }  # fmt: skip
