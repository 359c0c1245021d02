"""Wait for a state directory that another agent has locked.

Where Kubernetes replaces a pod, the earlier one may run on: a node without its link does not hear that it shall end.
The kernel frees a lock with the process that has it, whatever ended that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heliograph.core.world import DirectoryInUse, World


async def wait_for_state(state: Path, world: World, out: Callable[[str], None]) -> Any:
    """Return the lock of a state directory, once no other process has it; say that it waits, where it does."""
    try:
        return world.lock_directory(state)
    except DirectoryInUse:
        out(f"another agent runs on {state}; this one starts once that has ended")
    lock = await world.in_own_thread(world.lock_directory, state, True)
    out(f"the other agent has ended; {state} is this one's")
    return lock
