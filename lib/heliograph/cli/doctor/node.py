"""Whether the node's MQTT broker, which devices and workers use, can be reached."""

from __future__ import annotations

from heliograph.bus.connect import connect
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import HeliographError

PATIENCE = 3.0


class NodeCheck:
    name = "node"
    what = "the node's MQTT broker, where --node or HELIOGRAPH_NODE names one"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        if not patient.node:
            return []
        shown = ConnectionUrl.parse(patient.node, "--node").shown
        async with connect(patient.node, world=patient.world, name="doctor") as bus:
            try:
                await bus.link.wait_up(PATIENCE)
            except HeliographError:
                why = bus.link.refused or bus.last_error or "no answer"
                mend = "Start the node's broker (mosquitto on KubeEdge), or mend the agent's --node."
                return [Finding("problem", f"{shown} cannot be reached: {why}", mend)]
        return [good(f"{shown} answers")]
