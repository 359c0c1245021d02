"""Whether a coordinator leads and answers, has made its streams, and could read all it has stored."""

from __future__ import annotations

from heliograph.bus.contract.registry import declared
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import Forbidden, HeliographError, Refused

SLOW = 1.0


class CoordinatorCheck:
    name = "coordinator"
    what = "who leads, how fast it answers, its streams, and documents in quarantine"
    needs_cluster = True

    async def examine(self, patient: Patient) -> list[Finding]:
        assert patient.client is not None
        began = patient.world.monotonic()
        try:
            quarantined = await patient.client.quarantines.list()
        except Forbidden as error:
            return [Finding("note", f"requests are not examined: {error}", "Use a user's or the operator's login.")]
        except Refused as error:
            return [Finding("problem", f"the coordinator refuses a request: {error}")]
        except HeliographError as error:
            return [Finding("problem", f"no coordinator answers: {error}",
                            "Start one: 'heliograph coordinator --nats URL'; read its output if it runs.")]  # fmt: skip
        seconds = patient.world.monotonic() - began
        leader = await patient.noted("leader", "holder")
        findings = [good(f"{leader or 'a coordinator'} leads, and answers in {1000 * seconds:.0f} ms")]
        if seconds > SLOW:
            findings.append(Finding("warning", f"an answer takes {seconds:.1f} s",
                                    "Look at the load of its machine, and at quotas ('--quota')."))  # fmt: skip
        if quarantined:
            names = ", ".join(each["metadata"]["name"] for each in quarantined[:5])
            findings.append(Finding("warning", f"{len(quarantined)} stored documents cannot be read: {names}",
                                    "Read why by 'heliograph get quarantines'; delete or replace them."))  # fmt: skip
        return [*findings, *await _streams(patient)]


async def _streams(patient: Patient) -> list[Finding]:
    if patient.nats is None:
        return []
    missing = []
    for stream in declared().streams():
        found = await patient.jetstream(f"STREAM.INFO.{patient.nats.subjects.stream_name(stream.name)}")
        if found is None:
            return []
        if "error" in found:
            missing.append(stream.name)
    if not missing:
        return []
    return [Finding("problem", f"the broker has no stream {', '.join(missing)}",
                    "A coordinator makes them when it begins to lead: start it again; an earlier version does not know "
                    "all of them.")]  # fmt: skip
