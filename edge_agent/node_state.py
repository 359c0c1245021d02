"""What this node has free: memory, cores, battery; told again only once it has changed by enough.

Linux tells nobody when these change: a look at a few small files each minute is all there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from heliograph.bus.contract.payloads import NodeState
from heliograph.core.world import World
from heliograph.edge_agent.start_permits import free_memory

LOOK = 60.0
"""Seconds between two looks."""
BATTERY_STEP = 5.0
"""Percent by which a battery changes before it is told again."""
SHARE = 0.25
"""Share by which free memory, and of all cores the idle ones, change before they are told again."""
POWER_SUPPLIES = Path("/sys/class/power_supply")
"""https://www.kernel.org/doc/html/latest/power/power_supply_class.html"""


class NodeWatch:
    """Looks at the node.

    Args:
        read: returns what the node has now.
        changed: called when ``state`` has changed.
    """

    def __init__(self, read: Callable[[], NodeState], world: World, changed: Callable[[], None]) -> None:
        self._read = read
        self._world = world
        self._changed = changed
        self.state: NodeState | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            found = await self._world.in_thread(self._read)
            if self.state is None or is_news(self.state, found):
                self.state = found
                self._changed()
            await self._world.sleep(LOOK)


def is_news(before: NodeState, now: NodeState, cores: int = os.cpu_count() or 1) -> bool:
    """Return whether a node's state has changed by enough to be told again."""
    steps = ((before.battery, now.battery, BATTERY_STEP),
             (before.free_memory, now.free_memory, SHARE * (before.free_memory or 1)),
             (before.free_cores, now.free_cores, max(1.0, SHARE * cores)))  # fmt: skip
    return before.charging != now.charging or any(_differ(*each) for each in steps)


def read_node_state(supplies: Path = POWER_SUPPLIES) -> NodeState:
    """Return what this machine, or its container, has free."""
    levels, charging = read_batteries(supplies)
    free_cores = None
    with suppress(OSError):
        free_cores = round(max(0.0, (os.cpu_count() or 1) - os.getloadavg()[0]), 2)
    return NodeState(free_memory=free_memory() or None, free_cores=free_cores,
                     battery=round(sum(levels) / len(levels), 1) if levels else None, charging=charging)  # fmt: skip


def read_batteries(supplies: Path) -> tuple[list[float], bool]:
    """Return the percent of each battery of the machine, and whether it has external power. Batteries of devices such
    as a mouse do not count."""
    levels: list[float] = []
    external = False
    for each in _directories(supplies):
        kind = _text(each / "type")
        if kind == "Battery" and _text(each / "scope") != "Device":
            with suppress(ValueError):
                levels.append(min(100.0, max(0.0, float(_text(each / "capacity")))))
                external |= _text(each / "status") in ("Charging", "Full")
        elif kind in ("Mains", "USB", "Wireless"):
            external |= _text(each / "online") in ("1", "2")
    return levels, external and bool(levels)


def _directories(supplies: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(supplies.iterdir())


def _text(file: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text("ascii").strip()
    return ""


def _differ(before: float | None, now: float | None, step: float) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) >= step
