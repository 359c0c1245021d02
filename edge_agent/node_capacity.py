"""What this node has for its workers: memory and GPUs, found without importing a framework."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from heliograph.edge_agent.admission import Capacity
from heliograph.edge_agent.start_permits import SPARE_MEMORY, total_memory

GPUS = "CUDA_VISIBLE_DEVICES"
"""The variable by which CUDA and HIP are told the GPUs that a process may use."""
_DEVICES = Path("/dev")
_NUMBERED = re.compile(r"nvidia([0-9]{1,4})")
_COMPUTE = "kfd"
"""AMD's compute device, there once however many GPUs there are."""
_RENDER = re.compile(r"renderD([0-9]{1,4})")


def node_capacity(
    memory: int | None, gpus: int | None, environment: Mapping[str, str] = os.environ, devices: Path = _DEVICES
) -> Capacity:
    """Return what the node has.

    Args:
        memory, gpus: bytes and number that the agent's options name; None to find them out. By default a sixteenth of
            the memory, 256 MB at most, is left for agent and system.
        environment: where ``CUDA_VISIBLE_DEVICES`` names GPUs, the node has these and no others.
    """
    if memory is None:
        total = total_memory()
        memory = total - min(SPARE_MEMORY, total // 16)
    return Capacity(memory, _gpus(gpus, environment, devices))


def visible_gpus(gpus: tuple[str, ...]) -> dict[str, str]:
    """Return the variable that shows a worker its GPUs and no others; none where it was given none."""
    return {GPUS: ",".join(gpus)} if gpus else {}


def _gpus(number: int | None, environment: Mapping[str, str], devices: Path) -> tuple[str, ...]:
    named = environment.get(GPUS)
    found = tuple(filter(None, (each.strip() for each in named.split(",")))) if named is not None else None
    if number is None:
        return found if found is not None else tuple(map(str, range(_counted(devices))))
    if found is not None and len(found) >= number:
        return found[:number]
    return tuple(map(str, range(number)))


def _counted(devices: Path) -> int:
    """Return the number of NVIDIA's GPUs, else of AMD's."""
    try:
        names = [each.name for each in devices.iterdir()]
        nvidia = sum(1 for name in names if _NUMBERED.fullmatch(name))
        if nvidia or _COMPUTE not in names:
            return nvidia
        return sum(1 for each in (devices / "dri").iterdir() if _RENDER.fullmatch(each.name))
    except OSError:
        return 0
