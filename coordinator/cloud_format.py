"""The format of the coordinators' state in the cloud, recorded in the bucket of their lease.

Version 0.1 recorded none. Its state is read unchanged: format 1 adds only the record.
"""

from __future__ import annotations

from heliograph.bus.transport import KeyValue
from heliograph.core.errors import Conflict
from heliograph.core.state_format import StateFormat, present, steps

KEY = "format"
FORMAT = 1
PLACE = f"the cloud's state (key {KEY} of bucket coordinator)"


async def check_format(kv: KeyValue) -> None:
    """Raise HeliographError where a newer version has written the state: a coordinator that cannot lead does not
    stand by either."""
    await _read(kv)


async def migrate_format(kv: KeyValue) -> None:
    """Migrate the state to this version's format, and record it. Raise HeliographError where it is a newer one's."""
    mine = present(FORMAT)
    while True:
        found, revision = await _read(kv)
        if found == mine:
            return
        try:
            await kv.put(KEY, mine.dump(), revision)
            return
        except Conflict:  # another coordinator has led meanwhile: its version may differ
            continue


async def _read(kv: KeyValue) -> tuple[StateFormat, int]:
    entry = await kv.get(KEY)
    found = StateFormat.parse(entry.value, PLACE) if entry is not None else StateFormat(0)
    steps(found, FORMAT, PLACE)
    return found, entry.revision if entry is not None else 0
