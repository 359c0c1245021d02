"""Why a connection to a broker fails, in words for whoever can mend it."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heliograph.bus.proxy import ProxyFailed
from heliograph.core.errors import Refused, first_error

if TYPE_CHECKING:
    from heliograph.bus.connection_url import ConnectionUrl

_LOGIN = re.compile(r"authorization|authentication|user name or password|not authori[sz]ed|bad user|user jwt", re.I)
_EXPIRED_LOGIN = re.compile(r"authentication expired|jwt expired", re.I)
_NOT_TLS = re.compile(r"WRONG_VERSION_NUMBER|record layer failure|UNEXPECTED_MESSAGE|does not say in TLS", re.I)
_WANTS_CERTIFICATE = re.compile(r"CERTIFICATE_REQUIRED|peer did not return a certificate", re.I)
_OLD_TLS = re.compile(r"PROTOCOL_VERSION|unsupported protocol", re.I)
_WANTS_TLS = re.compile(r"secure connection (required|not available|wanted)|tls.?required", re.I)
_NO_BROKER = re.compile(r"no NATS server answers|nats: (unexpected|protocol)|empty response|invalid response", re.I)
_ENDED = re.compile(r"ended before the broker answered|ended at once|unexpected EOF|reset by peer|server hung up", re.I)
_TIMES_OUT = re.compile(r"time[d ]*out|timeout", re.I)
_BY_NUMBER = {
    errno.ECONNREFUSED: "nobody", errno.EHOSTUNREACH: "no-way", errno.ENETUNREACH: "no-way", errno.ENETDOWN: "no-way",
    errno.EADDRNOTAVAIL: "no-way", errno.ETIMEDOUT: "no-answer", errno.ECONNRESET: "ended", errno.EPIPE: "ended",
    errno.EACCES: "forbidden-here", errno.EPERM: "forbidden-here",
}  # fmt: skip
_UNTRUSTED, _SELF_SIGNED = (2, 20, 21, 27), (18, 19)
"""OpenSSL's codes (X509_V_ERR_…) where no authority that this client trusts has signed the certificate."""
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64


@dataclass(frozen=True, slots=True)
class LinkTrouble:
    """Why a connection fails.

    Attributes:
        kind: one word; the same for each failure that is mended in the same way.
        why: what is wrong, without an end.
        mend: what to do, a sentence or two.
    """

    kind: str
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.why}. {self.mend}"


def trouble_of(error: BaseException | None, url: ConnectionUrl) -> LinkTrouble:
    """Return why a connection to this URL failed with ``error``; None where no attempt has ended yet."""
    if error is None:
        return _trouble("no-answer", url, "")
    causes = list(_causes(error))
    text = " ".join(dict.fromkeys(str(each) for each in causes if str(each)))
    for each in causes:
        if isinstance(each, Refused):
            return LinkTrouble("settings", str(each), "Mend the URL, or the file that it names.")
        if isinstance(each, ProxyFailed):
            return LinkTrouble("proxy", each.why, each.mend)
        if isinstance(each, socket.gaierror):
            return _trouble("no-name", url, text)
        code = getattr(each, "verify_code", None)
        if isinstance(code, int):
            return _trouble(_kind_of_certificate(code), url, text)
    for kind, words in (("login-expired", _EXPIRED_LOGIN), ("login", _LOGIN), ("wants-certificate", _WANTS_CERTIFICATE),
                        ("old-tls", _OLD_TLS), ("wants-tls", _WANTS_TLS), ("no-tls", _NOT_TLS),
                        ("no-broker", _NO_BROKER)):  # fmt: skip
        if words.search(text):
            return _trouble(kind, url, text)
    for each in causes:
        if isinstance(each, OSError) and each.errno in _BY_NUMBER:
            return _trouble(_BY_NUMBER[each.errno], url, text)
    if any(isinstance(each, TimeoutError) for each in causes) or _TIMES_OUT.search(text):
        return _trouble("no-answer", url, text)
    if _ENDED.search(text) or any(isinstance(each, EOFError) for each in causes):
        return _trouble("ended", url, text)
    return LinkTrouble("other", text or type(error).__name__, "Look at the broker's log, too.")


def _kind_of_certificate(code: int) -> str:
    if code in (_NOT_YET, _EXPIRED):
        return "not-yet-valid" if code == _NOT_YET else "certificate-expired"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return "other-name"
    return "untrusted" if code in (*_UNTRUSTED, *_SELF_SIGNED) else "certificate"


def _trouble(kind: str, url: ConnectionUrl, text: str) -> LinkTrouble:
    host = " or ".join(dict.fromkeys(host for host, _ in url.places))
    place = " or ".join(url.addresses)
    secured = {"nats": "tls", "ws": "wss", "mqtt": "mqtts"}.get(url.scheme, url.scheme)
    plain = {"tls": "nats", "wss": "ws", "mqtts": "mqtt"}.get(url.scheme, url.scheme)
    broker = "MQTT broker" if url.scheme in ("mqtt", "mqtts") else "NATS server"
    usual = "1883, or 8883 with TLS" if url.scheme in ("mqtt", "mqtts") else "4222"
    why, mend = {
        "no-name": (f"the name {host} is not known here",
                    "Check its spelling, and this machine's DNS (getent hosts NAME asks it)."),
        "nobody": (f"nothing listens at {place}", f"Start the {broker}, or mend the port (usual: {usual})."),
        "no-way": (f"no way leads from this machine to {host}", "Check its network, and the address."),
        "no-answer": (f"{place} does not answer",
                      "The machine is off, the link is cut, or a firewall drops what is sent to this port."),
        "forbidden-here": (f"this machine forbids connections to {place}",
                           "Look at its firewall, and at the sandbox of this process."),
        "untrusted": (f"the certificate of {place} is signed by nobody whom this client trusts",
                      "Name the file of the cloud's authority by ?ca=FILE; if the cloud has a new one, enrol again."),
        "other-name": (f"the certificate of {place} is not for the name {host}",
                       "Write the name that it has into the URL, or have it made for this one."),
        "certificate-expired": (f"the certificate of {place} has expired",
                                "Renew it in the cloud; where it is valid, this machine's clock is ahead."),
        "not-yet-valid": (f"the certificate of {place} is not valid yet, by this machine's clock",
                          "Set the clock: one without a battery begins in the past."),
        "certificate": (f"the certificate of {place} is not accepted: {text[:200]}",
                        "Look at it by openssl s_client -connect HOST:PORT."),
        "wants-certificate": (f"{place} wants a certificate of this client",
                              "Name it by ?certificate=FILE&key=FILE."),
        "old-tls": (f"{place} does not speak TLS 1.3", "Switch it on there."),
        "wants-tls": (f"{place} takes no connection without TLS", f"Write {secured}:// into the URL."),
        "no-tls": (f"{place} answers without TLS",
                   f"Mend the port; a broker that has no TLS is named by {plain}://, and a NATS server that speaks "
                   "first in clear text by tls://…?handshake=upgrade."),
        "no-broker": (f"what listens at {place} is no {broker}", f"Mend the port (usual: {usual})."),
        "ended": (f"{place} ends the connection before it answers",
                  f"Check that a {broker} listens there, and with or without TLS as the URL says."),
        "login": (f"{place} refuses this login ({text[:200]})",
                  "Check user and password; a node that was revoked enrols again."),
        "login-expired": (f"{place} refuses this login, which has expired",
                          "heliograph enroll makes a new one; check this machine's clock, too."),
    }[kind]  # fmt: skip
    return LinkTrouble(kind, why, mend)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    found: BaseException | None = first_error(error)
    seen: list[BaseException] = []
    while found is not None and found not in seen and len(seen) < 8:
        seen.append(found)
        yield found
        found = found.__cause__ or found.__context__
