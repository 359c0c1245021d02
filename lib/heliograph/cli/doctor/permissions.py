"""Who may read this user's logins, and what this login may do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract.topics import LOG, STATUS
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import HeliographError, Refused
from heliograph.server import cluster_file, enrolled_directories, users_directory

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PermissionsCheck:
    name = "permissions"
    what = "the files with logins and keys, and what this login may read"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        return [*_files(patient), *(await _login(patient) if patient.client is not None else [])]


def _files(patient: Patient) -> list[Finding]:
    wanted = {cluster_file(): "logins", users_directory(): "logins"}
    for directory in enrolled_directories():
        wanted |= {directory: "a node's login"} | dict.fromkeys(directory.iterdir(), "a node's login")
    if patient.server is not None:
        if patient.server.source and "/" in patient.server.source:
            wanted[Path(patient.server.source)] = "logins"
        url = ConnectionUrl.parse(patient.server.url)
        if url.tls.key is not None:
            wanted[url.tls.key] = "a private key"
        if url.credentials.file is not None:
            wanted[url.credentials.file] = "a login"
    there = {path: what for path, what in wanted.items() if path.exists()}
    findings = [
        Finding("problem", f"{path}, with {what}, can be read by other users ({stat.filemode(mode)})",
                f"chmod go-rwx {path}")
        for path, what in there.items() if (mode := path.stat().st_mode) & _OTHERS
    ]  # fmt: skip
    findings += [
        Finding("problem", f"{path} cannot be read by this user", f"Change its owner: chown {os.getuid()} {path}")
        for path in there if not os.access(path, os.R_OK)
    ]  # fmt: skip
    if there and not findings:
        findings.append(good(f"{', '.join(map(str, there))}: this user's alone"))
    return findings


async def _login(patient: Patient) -> list[Finding]:
    assert patient.client is not None
    assert patient.server is not None
    user = ConnectionUrl.parse(patient.server.url).credentials.name or "an anonymous client"
    may: list[str] = []
    may_not: list[str] = []
    for what, pattern in (("read statuses", STATUS.filter()), ("read logs", LOG.filter())):
        try:
            async with patient.client.bus.subscribe(pattern):
                may.append(what)
        except HeliographError as error:
            if isinstance(error, Refused) and error.code != "forbidden":
                raise
            may_not.append(what)
    try:
        await patient.client.edges.list()
        may.append("send requests")
    except HeliographError:
        may_not.append("send requests")
    text = f"{user} may {', '.join(may) or 'do nothing'}"
    if not may_not:
        return [good(text)]
    hint = "Only a login sends requests, and only an operator reads logs; see 'heliograph up --user'."
    return [Finding("note" if may else "problem", f"{text}; may not {', '.join(may_not)}", hint)]
