"""Resources: a draw of the edges whose nodes report enough free memory, free cores and battery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from heliograph.bus.contract.payloads import NodeState
from heliograph.bus.contract.resources.node_resources import Memory, memory_bytes
from heliograph.coordinator.features.federated.participation.candidates import Candidate, Choice
from heliograph.core.world import Random


class ResourcesParameters(BaseModel):
    """Parameters of the selection by resources.

    Attributes:
        free_memory: memory that a node has free, such as ``512Mi``; without it any.
        free_cores: cores that are idle; without it any.
        battery: percent that a battery has, unless it is charging. A node without one needs none.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    free_memory: Memory | None = None
    free_cores: Annotated[float, Field(ge=0, le=4096)] = 0.0
    battery: Annotated[float, Field(ge=0, le=100)] = 20.0


def choose(
    candidates: Sequence[Candidate], number: int, round: int, random: Random, parameters: ResourcesParameters
) -> Choice:
    """Return at most ``number`` of the candidates: of those with enough, then of those that do not report it. Where all
    have too little, of all: a round without edges would never close."""
    ordered = sorted(candidates, key=lambda each: each.name)
    enough = {each.name: _has_enough(each.node, parameters) for each in ordered}
    good = [name for name, has in enough.items() if has]
    silent = [name for name, has in enough.items() if has is None]
    chosen = random.sample(good, min(number, len(good)))
    chosen += random.sample(silent, min(number - len(chosen), len(silent)))
    if chosen:
        lacking = f"{len(silent)} edges do not report what they have free" if silent and len(good) < number else ""
        return Choice(chosen, lacking)
    names = [*enough]
    return Choice(random.sample(names, min(number, len(names))), f"none of {len(names)} edges reports enough")


def _has_enough(node: NodeState | None, parameters: ResourcesParameters) -> bool | None:
    """Return whether a node has enough; None where it does not report what is asked."""
    if node is None:
        return None
    if node.battery is not None and not node.charging and node.battery < parameters.battery:
        return False
    needed = memory_bytes(parameters.free_memory) if parameters.free_memory is not None else 0
    known = True
    for wanted, has in ((needed, node.free_memory), (parameters.free_cores, node.free_cores)):
        if wanted and has is None:
            known = False
        elif wanted and has is not None and has < wanted:
            return False
    return True if known else None
