"""Whether the edges are connected, keep their events, and run their workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heliograph.cli.cells import age, failing
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import HeliographError

NAMED = 5
_FAILING = ("backing-off", "failed", "refused")


class EdgesCheck:
    name = "edges"
    what = "offline and flapping edges, lost events, failing workers"
    needs_cluster = True

    async def examine(self, patient: Patient) -> list[Finding]:
        try:
            edges = await patient.edges()
        except HeliographError as error:
            return [Finding("note", f"edges are not examined: {error}")]
        return judged(edges, patient.world.now())


def judged(edges: Sequence[Mapping[str, Any]], now: float) -> list[Finding]:
    """Return what is wrong with edges, by their documents. ``now`` is in seconds since 1970."""
    if not edges:
        return [Finding("warning", "no agent has ever connected", "Start one: 'heliograph agent --help'.")]
    findings: list[Finding] = []
    for each in edges:
        name, status = each["metadata"]["name"], each.get("status") or {}
        if not status.get("online"):
            since = age(str(status.get("since", "")), now) or "some time"
            findings.append(Finding("warning", f"{name} is offline for {since}",
                                    "Look at its agent's output and link; "
                                    f"'heliograph delete edges/{name}' if it is gone for good."))  # fmt: skip
        if trouble := failing(each):
            findings.append(Finding("warning", f"{name}: {trouble}", f"heliograph describe edges/{name}"))
        if lost := status.get("droppedEvents"):
            findings.append(Finding("warning", f"{name} has dropped {lost} events", "Raise 'agent --journal-mb'."))
        for worker in status.get("workers", ()):
            words = str(worker).split(None, 2)
            if len(words) > 1 and words[1].rstrip(":") in _FAILING:
                findings.append(Finding("warning", f"{name}: worker {worker}",
                                        f"heliograph logs {words[0]} --since 10m"))  # fmt: skip
    hidden = len(findings) - NAMED
    if hidden > 0:
        findings = [*findings[:NAMED], Finding("warning", f"and {hidden} more", "heliograph get edges")]
    online = sum(bool((each.get("status") or {}).get("online")) for each in edges)
    return [good(f"{online} of {len(edges)} edges are online"), *findings]
