"""Whether this command's login, and those of the nodes that have enrolled here, last."""

from __future__ import annotations

from pathlib import Path

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import Refused
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.world import rfc3339
from heliograph.login_files import LOGIN
from heliograph.server import enrolled_directories

SOON = 0.25
"""Part of a login's life that is left when it should have been renewed: agents do so at half of it."""
_MEND = ("Start the node's agent, which renews it, and read its output; commands renew their user's. If it was"
         " revoked, enrol again: heliograph enroll INVITATION.")  # fmt: skip


class LoginsCheck:
    name = "logins"
    what = "when this command's login, and those of nodes that have enrolled here, expire"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        files = [directory / LOGIN for directory in enrolled_directories()]
        own = ConnectionUrl.parse(patient.server.url).credentials.file if patient.server is not None else None
        if own is not None and own not in files:
            files.insert(0, own)
        return [_examined(file, patient.world.now()) for file in files]


def _examined(file: Path, now: float) -> Finding:
    try:
        claims = UserCredentials.read(file).claims
    except Refused as error:
        return Finding("problem", str(error), "Enrol again, or copy the file again.")
    if not claims.expires:
        return good(f"the login of {claims.name} does not expire")
    text = f"the login of {claims.name}, {file}, {'has expired' if claims.expires <= now else 'expires'}"
    text += f" at {rfc3339(claims.expires)}"
    if claims.expires <= now:
        return Finding("problem", text, _MEND)
    if claims.expires - now < SOON * (claims.expires - claims.issued_at):
        return Finding("warning", text, _MEND)
    return good(text)
