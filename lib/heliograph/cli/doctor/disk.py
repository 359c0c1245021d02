"""Whether this machine's disks and the broker's streams have room."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from heliograph.bus.contract.registry import declared
from heliograph.cli.cells import size
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.server import state_home

LOW, LEAST = 1_000_000_000, 100_000_000
"""Free bytes below which a disk is called low, and full."""
FULL = 0.9
"""Part of a stream's or the account's bound from which it is called full."""


class DiskCheck:
    name = "disk"
    what = "free space for state and temporary files here, and in the broker's store"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        findings: list[Finding] = []
        seen: set[int] = set()
        for what, path in (("state", state_home()), ("temporary files", Path(tempfile.gettempdir()))):
            found = _nearest(path)
            if (device := found.stat().st_dev) not in seen or not os.access(found, os.W_OK):
                seen.add(device)
                findings.append(_of_directory(what, found))
        return [*findings, *await _of_store(patient)]


def _of_directory(what: str, path: Path) -> Finding:
    """Examine the disk of a directory that exists."""
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("problem", f"{path}, for {what}, is not writable",
                       "Change its owner or mode, or name another: XDG_STATE_HOME, TMPDIR.")  # fmt: skip
    free = shutil.disk_usage(path).free
    inodes = os.statvfs(path)
    text = f"{path}, for {what}, has {size(free)} free"
    if inodes.f_files and not inodes.f_favail:
        return Finding("problem", f"{path}, for {what}, has no inode free", "Delete small files there.")
    if free < LOW:
        mend = "Make room, or name another disk: XDG_STATE_HOME, TMPDIR, --state DIR."
        return Finding("problem" if free < LEAST else "warning", text, mend)
    return good(text)


def _nearest(path: Path) -> Path:
    """Return the directory, or the nearest one above it that exists."""
    while not path.exists():
        path = path.parent
    return path


async def _of_store(patient: Patient) -> list[Finding]:
    if patient.nats is None:
        return []
    account = await patient.jetstream("INFO")
    if account is None or "error" in account:
        return []
    findings = []
    used, limit = account.get("storage", 0), account.get("limits", {}).get("max_storage", -1)
    if limit > 0 and used > FULL * limit:
        mend = "Delete what is not needed ('heliograph gc'), or raise the account's limit."
        findings.append(Finding("problem", f"the broker's store has {size(used)} of {size(limit)}", mend))
    else:
        of = f" of {size(limit)}" if limit > 0 else ""
        findings.append(good(f"the broker's store has {size(used)}{of}"))
    for stream in declared().streams():
        found = await patient.jetstream(f"STREAM.INFO.{patient.nats.subjects.stream_name(stream.name)}")
        if found is None or "error" in found:
            continue
        most, has = found["config"].get("max_bytes", -1), found["state"]["bytes"]
        if 0 < most < stream.max_bytes:
            findings.append(Finding("warning", f"stream {stream.name} keeps {size(most)} instead of "
                                    f"{size(stream.max_bytes)}: the broker's disk had no room",
                                    "Give the broker a larger disk, and start the coordinator again."))  # fmt: skip
        if most > 0 and has > FULL * most:
            findings.append(Finding("note", f"stream {stream.name} is full: it drops its oldest events for new ones"))
    return findings
