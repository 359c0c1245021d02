"""Whether the broker's certificate, and the authorities that this machine knows it by, last."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.bus.connection_url import SECURE, ConnectionUrl
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.world import rfc3339

DAY = 86_400
SERVER_DAYS, AUTHORITY_DAYS = 20, 30
"""Days that are left when somebody should have renewed: certificates are renewed at 30 of their 90 days, and the next
authority is in its file 60 days before the present one ends."""


class CertificatesCheck:
    name = "certificates"
    what = "when the broker's certificate and the authorities that are trusted here end"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        if patient.server is None:
            return []
        url, now = ConnectionUrl.parse(patient.server.url), patient.world.now()
        if url.scheme not in SECURE:
            return []
        findings = [_authorities(url.tls.ca, now)] if url.tls.ca is not None else []
        if patient.nats is not None and (shown := patient.nats.broker_certificate):
            findings.append(judged("the broker's certificate", _end(shown), now, SERVER_DAYS,
                                   "Run 'heliograph init DIRECTORY' there, and let the broker read it again: systemctl "
                                   "reload heliograph-broker; a timer does so daily."))  # fmt: skip
        return findings


def _authorities(file: Path, now: float) -> Finding:
    mend = "Copy ca.pem from the cloud's tls directory again; nodes that have enrolled get it by themselves."
    try:
        context = ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        return Finding("problem", f"the authorities in {file} cannot be read: {type(error).__name__}", mend)
    ends = [_end(each) for each in context.get_ca_certs()]
    return judged(f"the newest authority in {file}", max(ends, default=0.0), now, AUTHORITY_DAYS, mend)


def judged(what: str, end: float, now: float, days: int, mend: str) -> Finding:
    """Return what is to be said of something that ends; it should have been renewed with so many days left."""
    if end <= now:
        return Finding("problem", f"{what} ended at {rfc3339(end)}", mend)
    text = f"{what} is good until {rfc3339(end)}"
    return Finding("warning", text, mend) if end - now < days * DAY else good(text)


def _end(certificate: Mapping[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))
