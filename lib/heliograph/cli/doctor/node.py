"""Whether the node's MQTT broker, which devices and workers use, can be reached."""

from __future__ import annotations

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.link_trouble import trouble_of
from heliograph.cli.doctor import mosquitto
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import HeliographError

PATIENCE = 3.0


class NodeCheck:
    name = "node"
    what = "the node's MQTT broker, where --node or HELIOGRAPH_NODE names one, and what a mosquitto has dropped"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        if not patient.node:
            return []
        url = ConnectionUrl.parse(patient.node, "--node")
        shown = url.shown
        async with connect(patient.node, world=patient.world, name="doctor") as bus:
            try:
                await bus.link.wait_up(PATIENCE)
            except HeliographError:
                found = trouble_of(bus.link.failure, url)
                return [Finding("problem", f"{shown} cannot be reached: {found.why}", found.mend)]
        lost = mosquitto.finding(shown, await mosquitto.counts(patient.node, patient.world))
        return [good(f"{shown} answers"), *([lost] if lost is not None else [])]
