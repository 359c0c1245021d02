"""The streams of a command's cluster: only an operator on NATS reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.bus.nats.history import History
    from heliograph.client import AsyncClient


def history_of(client: AsyncClient, patterns: Sequence[str], since: float, what: str) -> History:
    """Return what the cluster's streams have since a time, in seconds since 1970.

    Args:
        what: the option or command that reads them, for the refusal.

    Raises Refused where the client speaks MQTT, which has no streams.
    """
    from heliograph.bus.nats.bus import NatsBus
    from heliograph.bus.nats.history import History

    if not isinstance(client.bus, NatsBus):
        raise Refused("unsupported", topic=what, expected="a nats:// server, whose streams have the past",
                      got=client.server.shown, hint="MQTT has no past.")  # fmt: skip
    return History(client.bus, patterns, since)
