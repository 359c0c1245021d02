"""Whether this program, the coordinator and the agents are of versions that work together."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

from heliograph import __version__
from heliograph.bus.contract.versions import parse_version
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import HeliographError

_MEND = "Upgrade one minor version after the other, in any order: pip install -U heliograph."
NAMED = 5


class VersionsCheck:
    name = "versions"
    what = "this program, its packages, the coordinator's version and the agents'"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        findings = [good(f"heliograph {__version__} on Python {platform.python_version()}")]
        if missing := _missing_packages():
            findings.append(Finding("problem", f"packages are missing: {', '.join(missing)}",
                                    "Install heliograph again: pip install --force-reinstall heliograph."))  # fmt: skip
        if patient.client is not None:
            findings += judged(__version__, await patient.noted("format", "written_by"), await _agents(patient))
        return findings


def judged(mine: str, coordinator: str, agents: Mapping[str, str]) -> list[Finding]:
    """Compare versions. Each works with the minor version before it and the one after it."""
    findings = []
    if coordinator and not _fit(mine, coordinator):
        findings.append(Finding("problem", f"the coordinator is heliograph {coordinator}", _MEND))
    reference = coordinator or mine
    unfit = {edge: version for edge, version in agents.items() if not _fit(reference, version)}
    for edge, version in [*unfit.items()][:NAMED]:
        findings.append(Finding("problem", f"the agent of {edge} is heliograph {version}, the coordinator {reference}",
                                _MEND))  # fmt: skip
    if len(unfit) > NAMED:
        findings.append(Finding("problem", f"and so are {len(unfit) - NAMED} more agents", _MEND))
    if not findings and (coordinator or agents):
        versions = sorted({*agents.values(), *([coordinator] if coordinator else [])})
        findings.append(good(f"coordinator and {len(agents)} agents are of {', '.join(versions)}"))
    return findings


def _fit(one: str, other: str) -> bool:
    (major, minor), (their_major, their_minor) = parse_version(one), parse_version(other)
    return major == their_major and abs(minor - their_minor) <= 1


def _missing_packages() -> list[str]:
    try:
        wanted = metadata.requires("heliograph") or []
    except metadata.PackageNotFoundError:  # it runs from its source
        return []
    missing = []
    for line in wanted:
        requirement, _, condition = line.partition(";")
        name = requirement.strip().partition(" ")[0]
        for sign in "<>=!~[(":
            name = name.partition(sign)[0]
        if condition:  # an extra, or another platform
            continue
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    return missing


async def _agents(patient: Patient) -> dict[str, str]:
    try:
        edges = await patient.edges()
    except HeliographError:
        return {}
    found = {each["metadata"]["name"]: each.get("status", {}).get("version", "") for each in edges}
    return {edge: version for edge, version in found.items() if version}
