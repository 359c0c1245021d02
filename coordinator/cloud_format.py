"""The format of what coordinators keep in the cloud, noted in the bucket of their lease.

0.1 noted none. What it left is read as it is: format 1 differs from it in the note alone.
"""

from __future__ import annotations

from heliograph.bus.transport import KeyValue
from heliograph.core.errors import Conflict
from heliograph.core.state_format import StateFormat, present, steps

KEY = "format"
FORMAT = 1
PLACE = f"the cloud's state (key {KEY} of bucket coordinator)"


async def check_format(kv: KeyValue) -> None:
    """Raises HeliographError where a newer version has written the state: a coordinator that cannot lead does not
    stand by either."""
    await _read(kv)


async def take_over_format(kv: KeyValue) -> None:
    """Migrate the state to this version's format, and note that. Raises HeliographError where it is a newer one's."""
    mine = present(FORMAT)
    while True:
        found, revision = await _read(kv)
        if found == mine:
            return
        try:
            await kv.put(KEY, mine.dump(), revision)
            return
        except Conflict:  # another coordinator led meanwhile: it may be of another version
            continue


async def _read(kv: KeyValue) -> tuple[StateFormat, int]:
    entry = await kv.get(KEY)
    found = StateFormat.parse(entry.value, PLACE) if entry is not None else StateFormat(0)
    steps(found, FORMAT, PLACE)
    return found, entry.revision if entry is not None else 0
