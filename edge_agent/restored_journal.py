"""Find out whether a journal's file is an earlier copy of itself: a restored disk, card or snapshot.

A copy gives its next events numbers that the cloud has already, and they would count as repeats. Each opening of the
file has numbers of its own. So the cloud has none of the present opening, or of a later one, before its first event has
been sent, unless the file went back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from heliograph.bus.contract import registry
from heliograph.bus.contract.lanes import lane_and_number, lane_name
from heliograph.bus.contract.topics import LANES
from heliograph.bus.transport import Bus
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_file import opening_of


async def newest_opening(bus: Bus, edge: str, journal: Journal) -> int:
    """Return the newest opening of this journal of which the cloud has an event; 0 where it has none. Raise
    HeliographError where the cloud does not answer."""
    patterns = [
        topic.filter(edge=edge)
        for topic in registry.declared().topics
        if topic.delivery == "event" and topic.bridged == "up" and topic.stream is not None and "edge" in topic.params
    ]
    lanes = {lane_name(edge, journal.uuid, lane) for lane in LANES}
    newest = 0
    for message in await asyncio.gather(*(bus.last_of(pattern) for pattern in patterns)):
        found = lane_and_number(message.headers) if message is not None else None
        if found is not None and found[0] in lanes:
            newest = max(newest, opening_of(found[1]))
    return newest


async def leave_numbers(journal: Journal, opening: int, behind: Mapping[int, int]) -> str:
    """Renumber the events behind a number of each lane above an opening of which the cloud has events. Return a line
    about it."""
    before = journal.opening
    await journal.begin_above(opening, behind)
    return (f"this journal is an earlier copy, as after a restored disk or snapshot: it was to begin opening {before}, "
            f"and the cloud has events of opening {opening}. It goes on as opening {journal.opening}, so that no new "
            "event counts as a repeat. What waited in the copy and has been sent since is not sent again")  # fmt: skip
