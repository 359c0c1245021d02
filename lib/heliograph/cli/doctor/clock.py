"""Whether the clocks of this machine and of the edges agree with the broker's."""

from __future__ import annotations

from datetime import datetime

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import REPORT
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.history import History
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import Refused

OFF = 2.0
"""Seconds from which a clock is called wrong: certificates, deadlines and the order of events go by it."""
FAR_OFF = 60.0
DELAY = 8.0
"""Seconds that a report of an edge may have been under way: so much later its clock seems to be."""
_MEND = "Set the clock by NTP there: chrony, systemd-timesyncd."
NAMED = 5
TRIES = 3
"""Reads of the reports, at most: an edge that reports during one has no report in it."""


class ClockCheck:
    name = "clock"
    what = "this machine's clock and the edges' against the broker's"
    needs_cluster = True

    async def examine(self, patient: Patient) -> list[Finding]:
        if patient.client is None or not isinstance(patient.client.bus, NatsBus):
            return [Finding("note", "clocks are not examined: MQTT tells no time")]
        began = patient.world.now()
        answer = await patient.jetstream(f"STREAM.INFO.{patient.client.bus.subjects.stream_name(REPORT.stream_name)}")
        ended = patient.world.now()
        if answer is None or "ts" not in answer:
            return [Finding("note", "clocks are not examined: this login may not ask JetStream")]
        here = between(began, seconds_of(answer["ts"]), ended)
        findings = [finding("this machine's clock", here) or good(f"this machine's clock is {said(here)}")]
        return [*findings, *await _edges(patient, patient.client.bus)]


async def _edges(patient: Patient, bus: NatsBus) -> list[Finding]:
    """Compare the time that an edge wrote into its report with that at which the broker stored it."""
    online = {each["metadata"]["name"] for each in await patient.edges() if each.get("status", {}).get("online")}
    wrong: dict[str, Finding] = {}
    seen: set[str] = set()
    for _ in range(TRIES):
        if online <= seen:
            break
        async with History(bus, [REPORT.filter()], 0) as history:
            async for each in history.past():
                edge = (REPORT.match(each.topic) or {}).get("edge", "")
                try:
                    written = seconds_of(decode(each.body, each.topic).time)
                except (Refused, ValueError):
                    continue
                if edge in online:
                    seen.add(edge)
                    if found := finding(f"the clock of {edge}", written - each.time, DELAY):
                        wrong[edge] = found
    findings = [*wrong.values()][:NAMED]
    if len(wrong) > NAMED:
        findings.append(Finding("warning", f"and those of {len(wrong) - NAMED} more edges", _MEND))
    agree = good(f"the clocks of {len(seen)} edges agree with the broker's")
    return findings or ([agree] if seen else [])


def between(began: float, broker: float, ended: float) -> float:
    """Return how far a clock is ahead of the broker's, which was read between two readings of it; 0 if it may agree."""
    if began > broker:
        return began - broker
    return ended - broker if ended < broker else 0.0


def finding(whose: str, ahead: float, delay: float = 0.0) -> Finding | None:
    """Return what is wrong with a clock; None if it is right, or a reading was so long under way."""
    if -OFF - delay < ahead < OFF:
        return None
    return Finding("problem" if abs(ahead) >= FAR_OFF else "warning", f"{whose} is {said(ahead)}", _MEND)


def said(ahead: float) -> str:
    """Return ``3.2 s ahead of the broker's`` or the like."""
    if abs(ahead) < 0.05:
        return "that of the broker"
    return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the broker's"


def seconds_of(text: str) -> float:
    """Return RFC 3339 as seconds since 1970; Go writes nanoseconds. Raises ValueError."""
    head, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return datetime.fromisoformat(f"{head}{dot}{rest[: min(digits, 6)]}{rest[digits:]}").timestamp()
