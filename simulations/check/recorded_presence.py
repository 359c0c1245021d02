"""Which edges were connected when, out of a trace: presence goes over no topic, but what follows from it does.

The coordinator's status tells when it has seen an edge come or go, and an agent claims its name each time it connects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heliograph.bus.contract import topics
from heliograph.simulations.check.material import WARM, Heard, Material

SAME = 1.0
"""Seconds within which two claims are of one connection: an agent asks first, and then says it."""
TOLD_WITHIN = 6.0
"""Seconds by which the coordinator's clock may differ from the broker's, or a status come late, to be believed."""


@dataclass(frozen=True)
class Change:
    """An edge came, or went.

    Attributes:
        process: it came with another agent process than before, which was killed therefore.
    """

    at: float
    online: bool
    process: bool = False


def changes(material: Material, edge: str) -> list[Change]:
    """In their order; the first one says since when the edge is there, 0 where it was before the recording began."""
    marks: list[tuple[float, int, str, str]] = []
    online: bool | None = None
    for each in material.of(topics.STATUS, resource="edges", name=edge):
        says = _online(each)
        if says is None or says == online:
            continue
        since = _since(each, material)
        if online is None and since < WARM:
            since = 0.0  # it was so before: the status came for another reason
        elif online is None and not says:
            marks.append((0.0, -1, "shown", ""))
        online = says
        marks.append((since, each.number, "shown" if says else "gone", ""))
    if online is None and any(each.retained for each in material.of(topics.REPORT, edge=edge)):
        marks.append((0.0, -1, "shown", ""))  # and nobody said otherwise
    marks += [
        (each.at, each.number, "claim", str(each.data.get("incarnation")))
        for each in material.of(topics.CLAIM, edge=edge) if not each.data.get("answer")
    ]  # fmt: skip
    return _merged(sorted(marks))


def _merged(marks: list[tuple[float, int, str, str]]) -> list[Change]:
    """Comings and goings one after the other, of what the coordinator has shown and what agents have claimed."""
    found: list[Change] = []
    there = claimed = False
    incarnation, claimed_at = "", 0.0
    for at, _, what, who in marks:
        if what == "gone":
            if there:
                found.append(Change(at, False))
            there = claimed = False
            continue
        if what == "shown":
            if not there:
                found.append(Change(at, True))
            there = True
            continue
        another = incarnation not in ("", who)
        if there and claimed and (another or at - claimed_at > SAME):
            found.append(Change(at, False))  # it was away too shortly for anyone to show it
            there = False
        if not there:
            found.append(Change(at, True, another))
        elif another and not claimed:
            found[-1] = replace(found[-1], process=True)
        there, claimed, incarnation, claimed_at = True, True, who, at
    return found


def _online(status: Heard) -> bool | None:
    try:
        return bool(status.data["status"]["online"])
    except (TypeError, KeyError):
        return None


def _since(status: Heard, material: Material) -> float:
    """When the coordinator saw it: what it says where that can be, else when it was shown."""
    text = status.data["status"].get("since")
    since = material.seconds(text) if isinstance(text, str) else None
    if since is None or since > status.at or (since >= WARM and status.at - since > TOLD_WITHIN):
        return status.at
    return since
