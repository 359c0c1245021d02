"""Whether this machine can confine workers: by its kernel, and by who runs the agent."""

from __future__ import annotations

from heliograph.cli.doctor.check import Finding, Patient, good


class ConfinementCheck:
    name = "confinement"
    what = "whether this machine can keep workers to their own files and network"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        from heliograph.edge_agent.confinement import landlock
        from heliograph.edge_agent.confinement.confiner import Confiner
        from heliograph.edge_agent.confinement.site_policy import CONFINED

        missing = Confiner(CONFINED).unenforced
        if not missing:
            return [good(f"workers are kept to their own files and network (Landlock {landlock.version()}, seccomp)")]
        return [Finding("warning", each, "Run no agent here for scripts of people whom you do not trust.")
                for each in missing]  # fmt: skip
