"""The edges' presence, reconstructed from a trace. No topic carries presence, but some show its effects.

The coordinator's status has the times at which it saw an edge come or go, and an agent claims its name on each
connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from heliograph.bus.contract import topics
from heliograph.simulations.check.loaded_trace import WARM, LoadedTrace, RecordedMessage

SAME = 1.0
"""Seconds within which two claims belong to one connection; an agent first asks for its name, then claims it."""
BELIEVED_WITHIN = 6.0
"""Largest difference, in seconds, between a status's time and its arrival at which its time is believed."""


@dataclass(frozen=True)
class PresenceChange:
    """An edge came online or went offline.

    Attributes:
        process: whether it came with a new agent process, so that the earlier one was killed.
    """

    at: float
    online: bool
    process: bool = False


def presence_changes(trace: LoadedTrace, edge: str) -> list[PresenceChange]:
    """Return an edge's changes of presence in their order. The first has the edge's start, 0 if it was online before
    the recording."""
    marks: list[tuple[float, int, str, str]] = []
    online: bool | None = None
    for each in trace.of(topics.STATUS, resource="edges", name=edge):
        shown = _online(each)
        if shown is None or shown == online:
            continue
        since = _since(each, trace)
        if online is None and since < WARM:
            since = 0.0  # it was online before; the status has another cause
        elif online is None and not shown:
            marks.append((0.0, -1, "shown", ""))
        online = shown
        marks.append((since, each.number, "shown" if shown else "gone", ""))
    if online is None and any(each.retained for each in trace.of(topics.REPORT, edge=edge)):
        marks.append((0.0, -1, "shown", ""))  # no status contradicts
    marks += [
        (each.at, each.number, "claim", str(each.data.get("incarnation")))
        for each in trace.of(topics.CLAIM, edge=edge) if not each.data.get("answer")
    ]  # fmt: skip
    return _merged(sorted(marks))


def _merged(marks: list[tuple[float, int, str, str]]) -> list[PresenceChange]:
    """Merge the marks of the coordinator's status and of agents' claims into changes in their order."""
    found: list[PresenceChange] = []
    there = claimed = False
    incarnation, claimed_at = "", 0.0
    for at, _, kind, claimant in marks:
        if kind == "gone":
            if there:
                found.append(PresenceChange(at, False))
            there = claimed = False
            continue
        if kind == "shown":
            if not there:
                found.append(PresenceChange(at, True))
            there = True
            continue
        another = incarnation not in ("", claimant)
        if there and claimed and (another or at - claimed_at > SAME):
            found.append(PresenceChange(at, False))  # offline too briefly for a status
            there = False
        if not there:
            found.append(PresenceChange(at, True, another))
        elif another and not claimed:
            found[-1] = replace(found[-1], process=True)
        there, claimed, incarnation, claimed_at = True, True, claimant, at
    return found


def _online(status: RecordedMessage) -> bool | None:
    try:
        return bool(status.data["status"]["online"])
    except (TypeError, KeyError):
        return None


def _since(status: RecordedMessage, trace: LoadedTrace) -> float:
    """Return the status's own time if it is plausible, or else its arrival."""
    text = status.data["status"].get("since")
    since = trace.seconds(text) if isinstance(text, str) else None
    if since is None or since > status.at or (since >= WARM and status.at - since > BELIEVED_WITHIN):
        return status.at
    return since
